/** The copy of a subscription, by the vectors that the Python client reads too. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Replica, etagOf, keyOf } from "../concord.js";

const vectors = JSON.parse(readFileSync(new URL("../../../spec/vectors/live.json", import.meta.url), "utf8"));

for (const { why, steps } of vectors.copies) {
  test(why, () => {
    const copy = new Replica();
    for (const [number, step] of steps.entries()) {
      const found = step.cut ? copy.cut() : copy.take(step.take);
      const at = `step ${number + 1}`;
      if ("changes" in step) {
        assert.deepEqual(found && found.changes.map(({ action, pk }) => [action, pk]), step.changes, at);
      }
      if ("rows" in step) assert.deepEqual([...copy.rows].sort().map(([pk, { item }]) => [pk, item]), step.rows, at);
      if ("resume" in step) assert.deepEqual(copy.resume(), step.resume, at);
    }
  });
}

test("objects know their key and their tag, and cannot be written into", () => {
  const copy = new Replica();
  copy.take({ type: "subscribed", how: "snapshot", epoch: "e", position: "p" });
  copy.take({ type: "snapshot", items: [{ pk: 7, etag: '"1-0"', version: 1, instance: { text: "a" } }], more: false });
  const { item } = copy.rows.get(7);
  assert.equal(keyOf(item), 7);
  assert.equal(etagOf(item), '"1-0"');
  assert.equal(etagOf({ ...item }), null);
  assert.throws(() => { item.text = "b"; }, TypeError);
});

test("what a new snapshot has unchanged stays the same object", () => {
  const copy = new Replica();
  const snapshot = (text) => {
    copy.take({ type: "subscribed", how: "snapshot", epoch: "e", position: "p" });
    return copy.take({ type: "snapshot", items: [{ pk: 7, etag: '"1-0"', version: 1, instance: { text } }], more: false });
  };
  snapshot("a");
  const { item } = copy.rows.get(7);
  assert.deepEqual(snapshot("a").changes, []);
  assert.equal(copy.rows.get(7).item, item);
  // the same version may show something else: a computed field, or what another user made of it
  assert.equal(snapshot("b").changes[0].before, item);
});
