/** What was typed and not saved, for this tab: it outlives a reload, the back button and a crash of the page. */
import { etagOf } from "../drf_concord/concord.js";
import { me } from "./session.js";

const PREFIX = `concord ${me} `;

export const drafts = {
  /** Keep values beside the state they are based on. */
  keep(pk, base, values) {
    const about = { base: { ...base }, etag: base === null ? null : etagOf(base) ?? base.etag, values };
    try {
      sessionStorage.setItem(PREFIX + pk, JSON.stringify(about));
    } catch {
      // no room, or not allowed: the page itself still has it
    }
  },
  drop: (pk) => sessionStorage.removeItem(PREFIX + pk),
  /** @returns {{ base: object, etag: string | null, values: object } | null} */
  get: (pk) => JSON.parse(sessionStorage.getItem(PREFIX + pk) ?? "null"),
  has: (pk) => sessionStorage.getItem(PREFIX + pk) !== null,
};

/** Return what this tab is known by: after a reload its hold is still its own. */
export function tab() {
  const known = sessionStorage.getItem(`${PREFIX}tab`) ?? crypto.randomUUID();
  sessionStorage.setItem(`${PREFIX}tab`, known);
  return known;
}

/** Keep what stands in an input that adds something, until it was added. */
export function remember(input, name) {
  input.value = sessionStorage.getItem(PREFIX + name) ?? "";
  const keep = () => (input.value ? sessionStorage.setItem(PREFIX + name, input.value) : sessionStorage.removeItem(PREFIX + name));
  input.addEventListener("input", keep);
  return keep;
}
