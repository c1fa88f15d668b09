/** Elements, times and announcements: what every page here uses. */

/** Make an element: `make("p", { className: "x" }, "text", other)`. */
export function make(tag, properties = {}, ...children) {
  const { dataset = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

export const find = (selector, within = document) => within.querySelector(selector);

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
export const time = (iso) => (iso ? clock.format(new Date(iso)) : "");
export const title = (name) => (name ? name[0].toUpperCase() + name.slice(1) : "Somebody");

let pending = null;
const said = [];
/** Tell those who do not see the page; several at once become one sentence. */
export function announce(text) {
  said.push(text);
  pending ??= setTimeout(() => {
    pending = null;
    const more = said.length - 3;
    find("#live").textContent = said.splice(0).slice(-3).join(" ") + (more > 0 ? ` And ${more} more changes.` : "");
  }, 400);
}

/**
 * Show a line for a while, with something to do about it. It stays while it has the focus or the pointer.
 *
 * @param {string} text
 * @param {{ action?: string, act?: () => void, seconds?: number, about?: string }} [options] `seconds`: Infinity for
 *   until it is dismissed; of what is `about` the same, the last one stands
 */
export function toast(text, { action, act, seconds = 8, about } = {}) {
  const box = make("div", { className: "toast", role: "status" }, make("span", {}, text));
  let timer = null;
  const close = () => (clearTimeout(timer), box.remove());
  const wait = () => (timer = seconds === Infinity ? null : setTimeout(close, seconds * 1000));
  const stay = () => clearTimeout(timer);
  if (about) {
    dismiss(about);
    box.dataset.about = about;
  }
  if (action) {
    const button = make("button", { type: "button" }, action);
    button.addEventListener("click", () => (close(), act()));
    box.append(button);
  }
  const cross = make("button", { type: "button", className: "quiet", ariaLabel: "Dismiss" }, "×");
  cross.addEventListener("click", close);
  box.append(cross);
  for (const [begin, end] of [["pointerenter", "pointerleave"], ["focusin", "focusout"]]) {
    box.addEventListener(begin, stay);
    box.addEventListener(end, wait);
  }
  place().append(box);
  wait();
}

/** Take back what was said about something. */
export function dismiss(about) {
  find(`.toast[data-about="${CSS.escape(about)}"]`)?.remove();
}

/** A dialog is above the page, and the page below it cannot be touched: what is said while one is open belongs into it. */
const place = () => [...document.querySelectorAll("dialog[open]")].at(-1) ?? find("#toasts");
document.addEventListener("close", ({ target }) => place().append(...target.querySelectorAll(".toast")), true);
