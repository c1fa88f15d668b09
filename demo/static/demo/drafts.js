/** What was typed and not saved, for this tab: it outlives a reload, the back button and a crash of the page. */
import { me } from "./session.js";

const PREFIX = `concord ${me} `;
const DRAFT = `${PREFIX}draft `;

/** The tab's storage, and the page's own memory where that is full or forbidden. */
const memory = new Map();
function stored(act) {
  try {
    return act(sessionStorage);
  } catch {
    return null;
  }
}
const read = (key) => memory.get(key) ?? stored((storage) => storage.getItem(key));
function write(key, text) {
  memory.set(key, text);
  stored((storage) => storage.setItem(key, text));
}
function remove(key) {
  memory.delete(key);
  stored((storage) => storage.removeItem(key));
}

export const drafts = {
  /** Keep values, and the state they are based on with its tag. */
  keep: (pk, base, etag, values) => write(DRAFT + pk, JSON.stringify({ base, etag, values })),
  drop: (pk) => remove(DRAFT + pk),
  /** @returns {{ base: any, etag: string | null, values: any } | null} */
  get: (pk) => JSON.parse(read(DRAFT + pk) ?? "null"),
  has: (pk) => read(DRAFT + pk) !== null,
  /** @returns {number[]} the keys of the tasks that have one */
  keys() {
    const names = [...memory.keys(), ...(stored((storage) => Object.keys(storage)) ?? [])];
    return [...new Set(names)].filter((name) => name.startsWith(DRAFT)).map((name) => Number(name.slice(DRAFT.length)));
  },
};

// a tab that is closed takes its storage along
addEventListener("beforeunload", (event) => {
  if (drafts.keys().length) event.preventDefault();
});

let named;
/** Return what this tab is known by: after a reload its hold is still its own, in a copy of the tab it is not. */
export const tab = () => (named ??= name());

async function name() {
  const known = read(`${PREFIX}tab`);
  if (known && (await claim(known))) return known;
  const [a, b] = crypto.getRandomValues(new BigUint64Array(2));
  const hex = ((a << 64n) | b).toString(16).padStart(32, "0");
  const made = hex.replace(/(.{8})(.{4}).(.{3}).(.{3})(.{12})/, "$1-$2-4$3-8$4-$5");
  write(`${PREFIX}tab`, made);
  await claim(made);
  return made;
}

/** Have a name for as long as this page lives; a page before this one gives it back within that time. */
function claim(wanted) {
  if (!navigator.locks) return true; // no secure context: a copy looks like a reload
  const signal = AbortSignal.timeout(1000);
  return new Promise((resolve) => {
    const held = () => (resolve(true), new Promise(() => {}));
    navigator.locks.request(`concord tab ${wanted}`, { signal }, held).catch(() => resolve(false));
  });
}

/** Keep what stands in an input that adds something, until it was added. */
export function remember(input, name) {
  const key = `${PREFIX}typed ${name}`;
  input.value = read(key) ?? "";
  const keep = () => (input.value ? write(key, input.value) : remove(key));
  input.addEventListener("input", keep);
  return keep;
}

/** A choice that is kept for this person, from visit to visit. */
export function choice(name, otherwise) {
  const key = PREFIX + name;
  return {
    get() {
      try {
        return localStorage.getItem(key) ?? otherwise;
      } catch {
        return otherwise;
      }
    },
    set(value) {
      try {
        localStorage.setItem(key, value);
      } catch {
        // it holds for this visit
      }
    },
  };
}
