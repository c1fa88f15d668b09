/** One task, open to be edited: with a hold that keeps others out, or with its tag alone. */
import { ConflictError, LockLostError, LockedError, NotFoundError, ValidationError, etagOf } from "../drf_concord/concord.js";
import { resolve } from "./conflict.js";
import { announce, dismiss, find, make, time, title, toast } from "./dom.js";
import { drafts, tab } from "./drafts.js";

const FIELDS = ["text", "notes", "done"];
const valuesOf = (item) => Object.fromEntries(FIELDS.map((name) => [name, item[name]]));
const differ = (a, b) => FIELDS.filter((name) => a[name] !== b[name]);
const pick = (values, names) => Object.fromEntries(names.map((name) => [name, values[name]]));
const TEXTS = {
  clash: "Somebody saved this task while you are editing it. When you save, you see both and choose.",
  deleted: "Somebody deleted this task. What you see here is kept until you close it; you can make it again.",
  draft: "These are your unsaved changes of before.",
  left: "This task is in another list now. What you save goes there.",
  lost: "You do not hold this task any more: it took too long, or somebody took it over." +
    " What you typed is kept; when you save it is compared with what others saved.",
  more: "What you had written is saved; what you typed since then is not yet.",
};

/**
 * What is known of one opening of the editor. Answers that come later ask whether theirs is still open.
 *
 * @typedef {{ pk: number, base: any, etag: string | null, lock: any, held: any, gone: boolean, saving: boolean,
 *   asking?: boolean, later?: any,
 *   notes: Set<string>, problem: { text: string, again: (() => void) | null } | null, leaving: AbortController }} Sitting
 */

export class Editor {
  /**
   * @param {import("../drf_concord/concord.js").Resource} tasks
   * @param {{ current: (pk: any) => any, lockOf: (pk: any) => any, holding: () => boolean, list: () => any,
   *   ours: (promise: Promise<any>, about: { pk?: any, text?: string }) => Promise<any>, shown: (pk: any) => void, closed: (pk: any) => void }} board
   */
  constructor(tasks, board) {
    this.tasks = tasks;
    this.board = board;
    /** @type {Sitting | null} */
    this.sitting = null;
    this.dialog = find("#editor");
    this.form = find("form", this.dialog);
    this.form.addEventListener("input", () => this._typed());
    this.form.addEventListener("submit", (event) => (event.preventDefault(), this.save()));
    const acts = { delete: () => this.delete(), discard: () => this.discard(), close: () => this.close() };
    for (const [value, act] of Object.entries(acts)) this._button(value).addEventListener("click", act);
    this.dialog.addEventListener("close", () => !this.dialog.open && this._leave());
    addEventListener("pagehide", () => this.sitting?.lock?.release().catch(() => {}));
    addEventListener("pageshow", ({ persisted }) => persisted && this.sitting?.lock && this.hold());
  }

  get pk() {
    return this.sitting?.pk ?? null;
  }

  get values() {
    const { text, notes, done } = this.form.elements;
    return { text: text.value, notes: notes.value, done: done.checked };
  }

  /** Whether the values are another than those they are based on. */
  get dirty() {
    return this.sitting !== null && differ(this.values, this.sitting.base).length > 0;
  }

  open(pk) {
    if (this.pk === pk) return;
    this.close();
    const [item, draft] = [this.board.current(pk), drafts.get(pk)];
    if (!item && !draft) return toast("This task is not there any more.");
    dismiss(`draft ${pk}`);
    const base = valuesOf(draft?.base ?? item);
    const sitting = (this.sitting = {
      pk, base, etag: draft ? draft.etag : etagOf(item), lock: null, held: null, gone: !item, saving: false,
      notes: new Set(draft ? ["draft"] : []), problem: null, leaving: new AbortController(),
    });
    this._fill(draft?.values ?? base);
    this._errors({});
    if (!item) sitting.notes.add("deleted");
    this.dialog.showModal();
    if (item) {
      this.changed(item);
      if (this.board.holding()) this.hold();
      this.locked(this.board.lockOf(pk));
    }
    this._show();
  }

  close() {
    this._leave();
    this.dialog.close();
  }

  /** Take the hold, or tell who has it. */
  async hold(take = false) {
    const sitting = this.sitting;
    if (!sitting || sitting.gone) return;
    const { pk, leaving } = sitting;
    sitting.asking = true;
    try {
      const { signal } = leaving;
      const lock = await (take
        ? this.tasks.takeOver(pk, { signal })
        : this.tasks.lock(pk, { ttl: 30, id: await tab(), signal }));
      if (this.sitting !== sitting) return void lock.release().catch(() => {});
      sitting.lock = lock;
      sitting.held = null;
      sitting.notes.delete("lost");
      lock.addEventListener("lost", () => this.sitting === sitting && sitting.lock === lock && this._lost());
    } catch (error) {
      if (this.sitting !== sitting) return;
      if (error instanceof LockedError) sitting.held = { holder: error.holder, since: error.since, mine: error.mine };
      else if (error instanceof NotFoundError) this._gone();
      else this._problem(`There is no hold: ${error.message} What you save is compared with what others saved.`);
    } finally {
      sitting.asking = false;
    }
    this._show();
  }

  /** There is news of the lock on the task. */
  locked(lock) {
    const { sitting } = this;
    // one's own hold may be told before the answer to who asked for it
    if (!sitting || sitting.lock?.held || sitting.gone || (sitting.asking && lock?.mine)) return;
    const before = sitting.held;
    if (lock) sitting.held = { holder: lock.holder, since: lock.acquired_at, mine: lock.mine };
    else if (before) {
      sitting.held = { free: true };
      if (!before.free) announce("The task is free now.");
    }
    this._show();
  }

  /** The task is another now: take over what does not touch what was typed here. */
  changed(item, reason) {
    const { sitting } = this;
    if (!sitting) return;
    if (!item) {
      if (reason === "left") sitting.notes.add("left");
      else this._gone();
      return this._show();
    }
    if (sitting.saving) return; // the answer says what became of it, and asks again
    const { base } = sitting;
    const [newest, mine] = [valuesOf(item), this.values];
    const clash = differ(newest, base).some((name) => mine[name] !== base[name] && mine[name] !== newest[name]);
    if (clash) {
      if (!sitting.notes.has("clash")) announce("Somebody else saved this task.");
      sitting.notes.add("clash");
    } else {
      const moved = differ(newest, base).filter((name) => mine[name] === base[name]);
      this._rebase(newest, etagOf(item));
      this._fill({ ...mine, ...pick(newest, moved) });
    }
    this._show();
  }

  async save() {
    const { sitting } = this;
    if (!sitting || sitting.saving || sitting.held) return;
    if (sitting.gone) return this._again(sitting);
    const mine = this.values;
    if (!differ(mine, sitting.base).length) return this.close();
    this._begin(sitting);
    try {
      const done = await this._write(sitting, mine);
      if (done) this._saved(sitting, done);
    } catch (error) {
      this._failed(sitting, error, "Not saved", () => this.save());
    } finally {
      this._finish(sitting);
    }
  }

  /** Write, and ask where somebody else has written the same.
   * @returns {Promise<any>} what stands now, the values that were sent, and those before; null to go on editing */
  async _write(sitting, mine) {
    let { base, etag, lock } = sitting;
    for (;;) {
      const names = differ(mine, base);
      if (!names.length) return { item: this.board.current(sitting.pk), mine, before: null };
      try {
        const options = { ifMatch: etag, lock: lock?.held ? lock : undefined };
        const item = await this.board.ours(this.tasks.patch(sitting.pk, pick(mine, names), options), sitting);
        return { item, mine, before: pick(base, names) };
      } catch (error) {
        if (error instanceof LockLostError && lock) {
          lock = null; // the tag says as well that nobody else has written
          continue;
        }
        if (!(error instanceof ConflictError) || !error.theirs) throw error;
        const theirs = valuesOf(error.theirs);
        let wanted = { ...theirs, ...pick(mine, names) }; // the changes do not touch each other: both stay
        if (names.some((name) => theirs[name] !== base[name] && theirs[name] !== mine[name])) {
          if (this.sitting !== sitting) throw error; // nobody is there to be asked
          const { save, values } = await resolve({ base, mine, theirs, by: error.by, at: error.at });
          if (this.sitting === sitting) this._fill(values);
          if (!save) return null;
          wanted = values;
        } else if (this.sitting === sitting) {
          const untouched = FIELDS.filter((name) => this.values[name] === mine[name]);
          this._fill({ ...this.values, ...pick(wanted, untouched) });
        }
        [base, etag, mine] = [theirs, etagOf(error.theirs), wanted];
        if (this.sitting === sitting) this._rebase(base, etag);
        this._keep(sitting, base, etag, mine);
      }
    }
  }

  _saved(sitting, { item, mine, before }) {
    const { pk } = sitting;
    const kept = drafts.get(pk);
    if (kept && !differ(kept.values, mine).length) drafts.drop(pk);
    this.board.shown(pk);
    if (this.sitting === sitting) {
      if (differ(this.values, mine).length) {
        // somebody typed on while it was sent
        this._rebase(item ? valuesOf(item) : mine, item ? etagOf(item) : sitting.etag);
        sitting.notes.add("more");
        this._typed();
      } else this.close();
    }
    if (!before) return toast("What the other one saved stands.");
    toast(`Saved “${item.text}”.`, { action: "Undo", act: () => this._undo(item, before) });
  }

  async delete() {
    const { sitting } = this;
    if (!sitting || sitting.saving || sitting.held || sitting.gone) return;
    const { pk, base, etag, lock } = sitting;
    const list = this.board.current(pk)?.list ?? this.board.list();
    this._begin(sitting);
    try {
      await this.board.ours(this.tasks.delete(pk, { ifMatch: etag, lock: lock?.held ? lock : undefined }), { pk });
      drafts.drop(pk);
      if (this.sitting === sitting) this.close();
      toast(`Deleted “${base.text}”.`, { action: "Undo", act: () => this._create({ ...base, list }) });
    } catch (error) {
      const changed = error instanceof ConflictError;
      this._failed(sitting, changed ? new Error("Look at what was changed, and delete it again.") : error, "Not deleted", () => this.delete());
      if (changed && error.theirs) sitting.later = error.theirs;
    } finally {
      this._finish(sitting);
    }
  }

  discard() {
    const { sitting } = this;
    if (!sitting) return;
    drafts.drop(sitting.pk);
    this._fill(sitting.base);
    this.close();
  }

  async _undo(saved, before) {
    try {
      await this.board.ours(this.tasks.patch(saved, before), { pk: saved.id });
      toast("As it was before.");
    } catch (error) {
      toast(error instanceof ConflictError ? "It was changed again meanwhile, so it stays as it is." : `Not undone: ${error.message}`);
    }
  }

  async _create(values) {
    try {
      await this.board.ours(this.tasks.create(values), values);
    } catch (error) {
      toast(`Not made again: ${error.message}`, { action: "Try again", act: () => this._create(values), seconds: Infinity });
    }
  }

  /** The task is gone: what was typed becomes a new one. */
  async _again(sitting) {
    const mine = this.values;
    this._begin(sitting);
    try {
      await this.board.ours(this.tasks.create({ ...mine, list: this.board.list() }), mine);
      drafts.drop(sitting.pk);
      if (this.sitting === sitting) this.close();
    } catch (error) {
      this._failed(sitting, error, "Not made again", () => this.save());
    } finally {
      this._finish(sitting);
    }
  }

  // What is under way, and what came of it

  _begin(sitting) {
    sitting.saving = true;
    sitting.problem = null;
    sitting.notes.delete("more");
    this._errors({});
    if (this.dirty) this._keep(sitting, sitting.base, sitting.etag, this.values);
    this._show();
  }

  _finish(sitting) {
    sitting.saving = false;
    if (this.sitting !== sitting) return;
    // what was told meanwhile waits no longer
    const item = sitting.later ?? this.board.current(sitting.pk);
    sitting.later = null;
    if (!this.dirty) drafts.drop(sitting.pk);
    if (item) this.changed(item);
    this._show();
  }

  _failed(sitting, error, what, again) {
    if (this.sitting !== sitting) {
      const { pk } = sitting;
      return toast(`${what}: ${error.message} It is kept here.`,
        { action: "Open", act: () => this.open(pk), seconds: Infinity, about: `draft ${pk}` });
    }
    if (error instanceof ValidationError && Object.keys(error.fields).length) {
      this._errors(error.fields);
      this._problem(`${what} yet: see below.`);
      this.form.elements[FIELDS.find((name) => name in error.fields) ?? "text"].focus();
    } else if (error instanceof LockedError) {
      sitting.held = { holder: error.holder, since: error.since, mine: error.mine };
    } else if (error instanceof NotFoundError) this._gone();
    else this._problem(`${what}: ${error.message} What you typed is kept.`, again);
  }

  _gone() {
    const { sitting } = this;
    if (!sitting || sitting.gone) return;
    sitting.gone = true;
    sitting.held = null;
    sitting.notes.add("deleted");
    if (this.dirty) this._typed();
    announce("The task was deleted.");
    this._show();
  }

  _lost() {
    const { sitting } = this;
    sitting.lock = null;
    sitting.notes.add("lost");
    announce("You do not hold this task any more.");
    this.locked(this.board.lockOf(sitting.pk));
  }

  _leave() {
    const { sitting } = this;
    if (!sitting) return;
    const { pk, lock, saving, gone } = sitting;
    this.sitting = null;
    sitting.leaving.abort();
    lock?.release().catch(() => {});
    this.board.shown(pk);
    const about = `draft ${pk}`;
    if (saving) toast("It is being saved.", { about });
    else if (drafts.has(pk) && gone) orphaned(pk, () => this.open(pk), () => this.board.shown(pk));
    else if (drafts.has(pk)) {
      const act = () => (drafts.drop(pk), this.board.shown(pk));
      toast("Your changes are not saved yet; they are kept here.", { action: "Discard", act, about });
    }
    this.board.closed(pk);
  }

  // What is shown

  _button(value) {
    return find(`button[value=${value}]`, this.form);
  }

  _rebase(base, etag) {
    Object.assign(this.sitting, { base, etag });
    this.sitting.notes.delete("clash");
  }

  _keep({ pk }, base, etag, values) {
    const list = this.board.current(pk)?.list ?? drafts.get(pk)?.base.list ?? this.board.list();
    drafts.keep(pk, { ...base, list }, etag, values);
  }

  _typed() {
    const { sitting } = this;
    if (!sitting) return;
    if (this.dirty) this._keep(sitting, sitting.base, sitting.etag, this.values);
    else drafts.drop(sitting.pk);
    this._show();
    this.board.shown(sitting.pk);
  }

  _fill(values) {
    for (const name of FIELDS) {
      const input = this.form.elements[name];
      if (name === "done") input.checked = values.done;
      else if (input.value !== values[name]) input.value = values[name];
    }
    if (this.sitting && this.dirty) this._keep(this.sitting, this.sitting.base, this.sitting.etag, this.values);
  }

  _problem(text, again = null) {
    this.sitting.problem = { text, again };
  }

  /** Show what is known: who has the task, what happened to it, and what can be done. */
  _show() {
    const { sitting } = this;
    if (!sitting) return;
    const { held, gone, saving, problem, notes } = sitting;
    const lines = [...notes].filter((name) => !(name === "draft" && !this.dirty) && !(name === "lost" && held)).map((name) => [TEXTS[name]]);
    if (notes.has("lost") && !held && !gone) lines.push(["", "Hold it again", () => this.hold()]);
    if (held?.free) lines.push(["It is free now.", "Edit", () => this._edit()]);
    else if (held) {
      const who = held.mine ? "You are editing this in another tab or program" : `${title(held.holder)} is editing this`;
      const since = held.since ? ` since ${time(held.since)}` : "";
      lines.push([`${who}${since}.${this.dirty ? " What you typed stays here." : ""}`, "Take over", () => this.hold(true)]);
    }
    if (problem) lines.push([problem.text, problem.again && "Try again", problem.again]);
    this._banner(lines);
    for (const name of ["text", "notes"]) this.form.elements[name].readOnly = Boolean(held);
    this.form.elements.done.disabled = Boolean(held);
    this._button("save").disabled = Boolean(held);
    this._button("save").ariaDisabled = String(saving);
    this._button("save").textContent = saving ? "Saving…" : gone ? "Make it again" : "Save";
    this._button("delete").disabled = Boolean(held) || gone;
    this._button("discard").hidden = !this.dirty || saving;
  }

  _edit() {
    this.sitting.held = null;
    this._show();
    if (this.board.holding()) this.hold();
  }

  _banner(lines) {
    const banner = find("#editor-banner");
    const text = JSON.stringify(lines.map(([said, label]) => [said, label]));
    if (banner.dataset.said === text) return; // nothing is read out twice, and no button goes from under a finger
    banner.dataset.said = text;
    banner.replaceChildren(...lines.flatMap(([said, label, act]) => {
      const made = said ? [make("p", {}, said)] : [];
      if (label) {
        made.push(make("button", { type: "button" }, label));
        made.at(-1).addEventListener("click", act);
      }
      return made;
    }));
  }

  _errors(fields) {
    for (const name of ["text", "notes"]) {
      find(`#edit-${name}-error`).textContent = (fields[name] ?? []).join(" ");
      this.form.elements[name].ariaInvalid = String(name in fields);
    }
  }
}

/** Tell that there are unsaved changes of a task that is gone, until somebody looks. */
export function orphaned(pk, look, dropped) {
  const { text } = drafts.get(pk).values;
  toast(`“${text}” was deleted. Your unsaved changes of it are kept.`, { action: "Look at it", act: look, seconds: Infinity, about: `draft ${pk}` });
  dropped();
}
