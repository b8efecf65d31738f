// What the client refuses or can't do, by the names that Python's client uses too. Each message is one line, and none
// holds a key, a share, a seed or a vector. The names are written out, since a bundler shortens those of classes.

export class FedkeysError extends Error {}

/** The bytes are no message of this protocol and version, or come out of turn. */
export class WireError extends FedkeysError {
  override readonly name = "WireError";
}

/** A message of secure aggregation that is not the next legal one, or is meant for someone else. */
export class UnexpectedMessage extends FedkeysError {
  override readonly name = "UnexpectedMessage";
}

/** The client stops here: going on could expose its update. */
class ServerRefused extends FedkeysError {}

/** The client has been in this session before, or has answered this round. */
export class SessionReplayed extends ServerRefused {
  override readonly name = "SessionReplayed";
}

/** The cohort, degree, threshold or minimum is below the client's own policy. */
export class WeakParameters extends ServerRefused {
  override readonly name = "WeakParameters";
}

/** A neighbour's keys are forged, repeated or unknown. */
export class RosterRefused extends ServerRefused {
  override readonly name = "RosterRefused";
}

/** Shares from someone who is not a neighbour. */
export class SharesRefused extends ServerRefused {
  override readonly name = "SharesRefused";
}

/** Survivors without the client itself, or with peers that never shared. */
export class SurvivorsRefused extends ServerRefused {
  override readonly name = "SurvivorsRefused";
}

/** Peers did not sign the survivors that this client received. */
export class SplitView extends ServerRefused {
  override readonly name = "SplitView";
}

/** The server asks for both secrets of one peer, or for the wrong one. */
export class AliveAndDead extends ServerRefused {
  override readonly name = "AliveAndDead";
}

/** Fewer peers than the threshold; happens to an honest server too, when many drop out. */
export class TooFewPeers extends ServerRefused {
  override readonly name = "TooFewPeers";
}

/** The split sum would go on in a way that could expose the client. */
export class SplitError extends FedkeysError {}

/** The bytes are not the expected message of the split sum. */
export class MalformedMessage extends SplitError {
  override readonly name = "MalformedMessage";
}

/** The message is of another run, round or model. */
export class ForeignRound extends SplitError {
  override readonly name = "ForeignRound";
}

/** The message is for other helpers than these. */
export class ForeignHelper extends SplitError {
  override readonly name = "ForeignHelper";
}

/** The client has sent a vector for this round before. */
export class RoundAnswered extends SplitError {
  override readonly name = "RoundAnswered";
}

/** The sum would be of fewer vectors than the client insists on. */
export class BelowThreshold extends FedkeysError {
  override readonly name = "BelowThreshold";
}

/** The server goes on with other settings or words than it began with. */
export class RunChanged extends FedkeysError {
  override readonly name = "RunChanged";
}

/** The server asks for another sum, or for more work, than the client takes part in. */
export class DemandRefused extends FedkeysError {
  override readonly name = "DemandRefused";
}

/** The client's own key or roster does not fit the run. */
export class KeysError extends FedkeysError {
  override readonly name = "KeysError";
}

/** Who may take part is not what the operator signed last. */
export class UntrustedRoster extends FedkeysError {}

/** Nobody signed the roster, and the client knows the operator's key. */
export class UnsignedRoster extends UntrustedRoster {
  override readonly name = "UnsignedRoster";
}

/** The roster is of other keys than those that the client is enrolled with. */
export class ForeignRoster extends UntrustedRoster {
  override readonly name = "ForeignRoster";
}

/** The roster was changed, or another than the operator signed it. */
export class ForgedRoster extends UntrustedRoster {
  override readonly name = "ForgedRoster";
}

/** The client has seen a newer roster. */
export class OldRoster extends UntrustedRoster {
  override readonly name = "OldRoster";
}

/** The client has seen another roster of the same number. */
export class ForkedRoster extends UntrustedRoster {
  override readonly name = "ForkedRoster";
}

/** The client is not on the roster. */
export class NotOnRoster extends UntrustedRoster {
  override readonly name = "NotOnRoster";
}

/** The connection fails, ends, or is not let in. */
export class DoorError extends FedkeysError {
  override readonly name = "DoorError";
}

/** The connection was lost: another one may be let in. */
export class ConnectionLost extends DoorError {}
