/** Who this page is, its connection, and the line that shows how that is. */
import { connect } from "../drf_concord/concord.js";
import { announce, find } from "./dom.js";

export const me = document.body.dataset.name;

const LIFETIME = 50 * 60_000; // milliseconds: of the hour that a token lives, so that none runs out in use
let token = document.body.dataset.token;
let until = Date.now() + LIFETIME;

/** Return a token that is still good, as far as we know. */
async function current() {
  if (Date.now() > until) {
    const answer = await fetch(`/board/token/${me}/`);
    if (!answer.ok) throw new Error(`No token: ${answer.status}`);
    ({ token } = await answer.json());
    until = Date.now() + LIFETIME;
  }
  return token;
}

/** Take another token before this one has run out, also where the page slept meanwhile. */
setInterval(() => Date.now() > until && connection.status === "open" && connection.reconnect(), 10_000);

export const headers = async () => ({ Authorization: `Demo ${await current()}` });

export const connection = connect("/ws/", { headers, protocols: async () => [`demo.${await current()}`] });

const TEXTS = {
  open: "Live",
  connecting: "Connecting…",
  lost: "Not connected. What you write is kept, and sent when the connection is back.",
  closed: "Disconnected. Copy what you have not saved, then reload the page.",
};
let shown = "connecting";
let late = null;

/** Say that this page shows old things for good. */
export const broken = () => show("closed");

function show(state) {
  clearTimeout(late);
  if (state === shown || shown === "closed") return;
  const before = shown;
  shown = state;
  find("#connection").dataset.state = document.body.dataset.connection = state;
  find("#connection-text").textContent = TEXTS[state];
  if (state !== "open" || before !== "connecting") announce(state === "open" ? "Connected again." : TEXTS[state]);
}

connection.addEventListener("status", ({ detail }) => {
  if (detail.code === 4401) until = 0; // it has run out: the next attempt takes another one
  if (detail.status === "open" || detail.status === "closed") show(detail.status);
  else if (shown === "open") {
    clearTimeout(late);
    late = setTimeout(() => show("lost"), 300); // a blink of an eye is no news
  } else if (shown === "connecting" && detail.status === "waiting") show("lost");
});

/** What people sent and have no answer to. The page does not go without a word while there is any. */
const unanswered = new Set();
export function sending(promise) {
  unanswered.add(promise);
  const done = () => unanswered.delete(promise);
  promise.then(done, done);
  return promise;
}
addEventListener("beforeunload", (event) => {
  if (unanswered.size) event.preventDefault();
});
