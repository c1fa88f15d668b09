/** Who has what: read once when the connection stands, then kept by what is told. */
import { headers } from "./session.js";

/**
 * Follow the locks on the objects of a collection.
 *
 * @param {import("../drf_concord/concord.js").Collection} collection
 * @param {(pk: any) => void} changed is told the key of each object whose lock is another now
 * @returns {Map<any, object>} the locks that are not free, by key
 */
export function followLocks(collection, changed) {
  const locks = new Map();
  let told = new Set();

  const set = (pk, lock) => {
    if (lock && lock.state !== "free") locks.set(pk, lock);
    else locks.delete(pk);
    changed(pk);
  };
  collection.addEventListener("lock", ({ detail }) => {
    told.add(detail.pk);
    set(detail.pk, detail.lock);
  });

  const read = async () => {
    const mine = (told = new Set());
    const answer = await fetch(`/api/locks/?model=${collection.options.model}`, { headers: await headers() });
    if (!answer.ok || mine !== told) return;
    const found = new Map((await answer.json()).map((lock) => [lock.pk, lock]));
    if (mine !== told) return; // read again meanwhile
    for (const { pk, lock } of named(collection, found, locks)) if (!mine.has(pk)) set(pk, lock);
  };
  const again = () => collection.status === "live" && read().catch(() => {});
  collection.addEventListener("status", again);
  again();
  return locks;
}

/** The locks name objects by their primary key as text. */
function* named(collection, found, locks) {
  for (const item of collection.items) {
    const lock = found.get(String(item.id));
    if (lock || locks.has(item.id)) yield { pk: item.id, lock };
  }
}
