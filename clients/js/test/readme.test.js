/** The example of the README, as it stands there. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const address = process.env.CONCORD_DEMO;
const options = { skip: address ? false : "CONCORD_DEMO names no running demo", timeout: 30_000 };

test("the example of the README runs", options, async () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const module = new URL("../concord.js", import.meta.url).href;
  const example = /```js\n(.*?)```/s.exec(readme)[1].replace("./concord.js", module);
  const { token } = await (await fetch(`${address}/board/token/ada/`)).json();
  assert.ok(example.includes('connect("/ws/")'));
  const shown = [];
  globalThis.location = { href: `${address}/` };
  Object.assign(globalThis, { render: (items) => shown.push(items), ask: assert.fail, tell: assert.fail });
  const program = example.replace('connect("/ws/")', `connect("/ws/", { protocols: ["demo.${token}"] })`) + "\nexport { live, task, tasks };";
  const { live, task, tasks } = await import(`data:text/javascript,${encodeURIComponent(program)}`);
  while (live.items[0] === task) await new Promise((resolve) => live.addEventListener("change", resolve, { once: true }));
  assert.equal(live.items[0].done, true);
  assert.equal(shown.at(-1), live.items);
  await tasks.patch(live.items[0], { done: false });
  live._connection.close();
});
