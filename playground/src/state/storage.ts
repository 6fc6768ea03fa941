/** Browser storage that may be missing, full or forbidden: the page then simply forgets. */

type Area = "localStorage" | "sessionStorage";

function area(name: Area): Storage | null {
  try {
    return window[name]; // reading the property itself throws where storage is blocked
  } catch {
    return null;
  }
}

export function readText(name: Area, key: string): string | null {
  try {
    return area(name)?.getItem(key) ?? null;
  } catch {
    return null;
  }
}

export function readJson(name: Area, key: string): unknown {
  const text = readText(name, key);
  if (text === null) return null;
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Says whether the text was kept, so that a caller can offer something smaller. */
export function writeText(name: Area, key: string, text: string): boolean {
  try {
    const store = area(name);
    store?.setItem(key, text);
    return store !== null;
  } catch {
    return false;
  }
}

export function remove(name: Area, key: string): void {
  try {
    area(name)?.removeItem(key);
  } catch {
    // nothing was kept, so nothing is left behind
  }
}

export function keysWith(name: Area, prefix: string): string[] {
  try {
    const store = area(name);
    return store ? Object.keys(store).filter((key) => key.startsWith(prefix)) : [];
  } catch {
    return [];
  }
}
