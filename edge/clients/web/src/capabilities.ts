/** What the page needs of a browser, and what it can learn of the device. */

import type { Key } from "./strings.ts";

// The smallest module with a SIMD instruction: a function that splats a constant and drops it.
const SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);

/** Returns the sentence that says why the page can't work here; null if it can. */
export async function missing(): Promise<Key | null> {
  if (!window.isSecureContext || crypto.subtle === undefined) return "error.insecure";
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) return "error.noSimd";
  if (typeof indexedDB === "undefined" || typeof caches === "undefined") return "error.storageRefused";
  try {
    new RegExp("[\\p{L}--[a-z]]", "v");
  } catch {
    return "error.oldBrowser";
  }
  try {
    await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
    await crypto.subtle.generateKey({ name: "X25519" }, false, ["deriveBits"]);
  } catch {
    return "error.noCurves";
  }
  return null;
}

/** Whether the device may work: true or false where the browser tells, null where it does not. */
export interface Eligibility {
  charging: boolean | null;
  unmetered: boolean | null;
}

interface Telling {
  getBattery?(): Promise<{ charging: boolean }>;
  connection?: { type?: string; saveData?: boolean };
}

/** Returns what the browser tells of charging and of the network. */
export async function eligibility(): Promise<Eligibility> {
  const device = navigator as Telling;
  const battery = await device.getBattery?.().catch(() => undefined);
  const { type, saveData } = device.connection ?? {};
  let unmetered: boolean | null = null;
  if (saveData === true || type === "cellular") unmetered = false;
  else if (type === "wifi" || type === "ethernet") unmetered = true;
  return { charging: battery?.charging ?? null, unmetered };
}
