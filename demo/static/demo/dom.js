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

/** Show a line for a while, with something to do about it. It stays while it has the focus or the pointer. */
export function toast(text, action, act, seconds = 8) {
  const box = make("div", { className: "toast", role: "status" }, make("span", {}, text));
  let timer = null;
  const close = () => (clearTimeout(timer), box.remove());
  const wait = () => (timer = setTimeout(close, seconds * 1000));
  const stay = () => clearTimeout(timer);
  if (action) {
    const button = make("button", { type: "button" }, action);
    button.addEventListener("click", () => (close(), act()));
    box.append(button);
  }
  const dismiss = make("button", { type: "button", className: "quiet", ariaLabel: "Dismiss" }, "×");
  dismiss.addEventListener("click", close);
  box.append(dismiss);
  for (const [begin, end] of [["pointerenter", "pointerleave"], ["focusin", "focusout"]]) {
    box.addEventListener(begin, stay);
    box.addEventListener(end, wait);
  }
  // a dialog is above the page: what is said while one is open belongs into it
  (find("dialog[open]") ?? find("#toasts")).append(box);
  wait();
  return close;
}
