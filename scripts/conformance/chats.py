"""chats.json: texts that are an exported chat of several people or are not, by the rule of models/text_sources.py."""

from __future__ import annotations

from models.text_sources import names_in_chat

_HEADS = {  # how a message of WhatsApp, Telegram or Signal begins, with and without the name
    "Android": "02/05/2018, 19:38 - ",
    "Android, German": "02.05.18, 19:38 - ",
    "Android, American": "5/2/18, 7:38 PM - ",
    "Android, narrow space": "5/2/18, 7:38\u202fp.m. - ",
    "iOS": "[02.05.18, 19:38:15] ",
    "iOS, a mark of direction": "\u200e[02/05/2018, 19:38:15] ",
    "ISO": "[2018-05-02 19:38] ",
    "with at": "02/05/2018 at 19:38 - ",
    "Arabic digits": "[\u0660\u0662/\u0660\u0665/\u0662\u0660\u0661\u0668 \u0661\u0669:\u0663\u0668] ",
    "no colon in the time": "02.05.18, 19.38 - ",
}
_NO_HEADS = (
    "19:38 ",
    "2018-05-02 ",
    "02.05.18, 19:38 ",
    "02.05.18, 19:38 -- ",
    "on 02.05.18, 19:38 - ",
    "(02.05.18, 19:38) ",
)
_ALIKE = {
    "one line of it": ["02.05.18, 19:38 - Ann: hi"],
    "fewer than half": ["02.05.18, 19:38 - Ann: hi", "02.05.18, 19:39 - Bob: hi", "a", "b", "c"],
    "half, with blank lines": ["02.05.18, 19:38 - Ann: hi", "", "02.05.18, 19:39 - Ann: hi", " ", "a", "b", "\x1f"],
    "no space after the name": ["02.05.18, 19:38 - Ann:hi", "02.05.18, 19:39 - Bob:hi"],
    "a long name": [f"02.05.18, 19:38 - {name}: hi" for name in ("a" * 60, "b" * 61, "c" * 60)],
    "the program's own lines": [
        "02.05.18, 19:38 - You joined",
        "02.05.18, 19:38 - Ann: hi",
        "02.05.18, 19:39 - Bob: hi",
    ],
    "what one person typed": ["see you at 10:30", "ok: fine", "tomorrow - Ann: says no"],
}


def chats() -> dict[str, object]:
    """Returns the file's content: for each text its lines, and who wrote in it; nobody where it is no exported chat."""
    texts = {name: [f"{head}Ann: see you", f"{head}Bob B: ok: fine"] for name, head in _HEADS.items()}
    texts.update({f"no chat: {head}": [f"{head}Ann: see you", f"{head}Bob B: ok"] for head in _NO_HEADS})
    texts.update(_ALIKE)
    return {name: {"lines": lines, "names": names_in_chat(lines)} for name, lines in texts.items()}
