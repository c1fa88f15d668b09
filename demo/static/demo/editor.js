/** One task, open to be edited: with a hold that keeps others out, or with its tag alone. */
import { ConflictError, LockLostError, LockedError, NotFoundError, ValidationError, etagOf } from "../drf_concord/concord.js";
import { resolve } from "./conflict.js";
import { announce, find, make, time, title, toast } from "./dom.js";
import { drafts, tab } from "./drafts.js";
import { sending } from "./session.js";

const FIELDS = ["text", "notes", "done"];
const valuesOf = (item) => Object.fromEntries(FIELDS.map((name) => [name, item[name]]));
const differ = (a, b) => FIELDS.filter((name) => a[name] !== b[name]);

export class Editor {
  /**
   * @param {import("../drf_concord/concord.js").Resource} tasks
   * @param {{ current: (pk: any) => any, lockOf: (pk: any) => any, holding: () => boolean,
   *   shown: (pk: any) => void, closed: (pk: any) => void }} board
   */
  constructor(tasks, board) {
    this.tasks = tasks;
    this.board = board;
    this.pk = null;
    this.dialog = find("#editor");
    this.form = find("form", this.dialog);
    this.form.addEventListener("input", () => this._typed());
    this.form.addEventListener("submit", (event) => (event.preventDefault(), this.save()));
    const acts = { delete: () => this.delete(), discard: () => this.discard(), close: () => this.dialog.close() };
    for (const [value, act] of Object.entries(acts)) find(`button[value=${value}]`, this.form).addEventListener("click", act);
    this.dialog.addEventListener("close", () => this._closed());
    addEventListener("pagehide", () => this.lock?.release().catch(() => {}));
  }

  /** Whether the values are another than those they are based on. */
  get dirty() {
    return this.pk !== null && differ(this.values, this.base).length > 0;
  }

  get values() {
    const { text, notes, done } = this.form.elements;
    return { text: text.value, notes: notes.value, done: done.checked };
  }

  open(pk) {
    if (this.pk !== null) return;
    const item = this.board.current(pk);
    const draft = drafts.get(pk);
    if (!item && !draft) return toast("This task is not there any more.");
    this.pk = pk;
    this.lock = null;
    this.saving = false;
    this.gone = !item;
    this._rest();
    this.base = valuesOf(draft?.base ?? item);
    this.etag = draft ? draft.etag : etagOf(item);
    this._fill(draft?.values ?? this.base);
    this._errors({});
    this.dialog.showModal();
    this._banner(draft ? "These are your changes of before, which are not saved yet." : "");
    if (item) this.changed(item);
    else this._deleted();
    if (item && this.board.holding()) this.hold();
    else if (item) this.locked(this.board.lockOf(pk));
  }

  /** Take the hold, or tell who has it. */
  async hold(take = false) {
    const pk = this.pk;
    try {
      const lock = await (take ? this.tasks.takeOver(pk) : this.tasks.lock(pk, { ttl: 30, id: tab(), signal: this._leaving.signal }));
      if (this.pk !== pk) return void lock.release().catch(() => {}); // closed before it came
      this.lock = lock;
      lock.addEventListener("lost", ({ detail }) => this.lock === lock && this._lost(detail.error));
      this._readOnly(false);
      this._banner(this.dirty ? "You have the hold: nobody else can save this now. Your unsaved changes are here." : "");
    } catch (error) {
      if (this.pk !== pk) return;
      if (error instanceof LockedError) this._held(error.holder, error.since, error.mine);
      else if (error instanceof NotFoundError) this._deleted();
      else this._banner(`There is no hold: ${error.message} What you save is compared with what others saved.`);
    }
  }

  /** There is news of the lock on the task. */
  locked(lock) {
    if (this.lock?.held || this.gone) return;
    if (lock) this._held(lock.holder, lock.acquired_at, lock.mine);
    else if (this.readOnly) {
      announce("The task is free now.");
      this._banner("It is free now.", ["Edit", () => (this._readOnly(false), this._banner(""), this.board.holding() && this.hold())]);
    }
  }

  /** The task is another now: take over what does not touch what was typed here. */
  changed(item) {
    if (!item) return this._deleted();
    if (this.saving) return; // the answer says what became of it
    const [newest, mine] = [valuesOf(item), this.values];
    const clash = differ(newest, this.base).filter((name) => mine[name] !== this.base[name] && mine[name] !== newest[name]);
    if (clash.length) {
      this._banner("Somebody saved this task while you are editing it. When you save, you see both and choose.");
      announce("Somebody else saved this task.");
      return;
    }
    const moved = differ(newest, this.base).filter((name) => mine[name] === this.base[name]);
    this.base = newest;
    this.etag = etagOf(item);
    this._fill({ ...mine, ...Object.fromEntries(moved.map((name) => [name, newest[name]])) });
    if (this.dirty) drafts.keep(this.pk, { ...this.base, etag: this.etag }, this.values);
    else drafts.drop(this.pk);
  }

  async save() {
    if (this.saving || this.readOnly) return;
    if (this.gone) return this._again();
    const [pk, mine, base] = [this.pk, this.values, this.base];
    const names = differ(mine, base);
    if (!names.length) return this.dialog.close();
    const before = base;
    this._busy(true);
    this._errors({});
    try {
      const data = Object.fromEntries(names.map((name) => [name, mine[name]]));
      const saved = await this._write(pk, data, { base, mine, etag: this.etag });
      this._busy(false);
      if (!saved) return;
      drafts.drop(pk);
      this.board.shown(pk);
      if (this.pk === pk) this.dialog.close();
      toast(`Saved “${saved.text}”.`, "Undo", () => this._undo(saved, before));
    } catch (error) {
      this._busy(false);
      if (this.pk === pk) this._refused(error);
      else toast(`Not saved: ${error.message} It is kept here.`, "Open", () => this.open(pk), 30);
    }
  }

  /** Write, and ask where somebody else has written the same. @returns the saved task, or null to go on editing */
  async _write(pk, data, { base, mine, etag }) {
    for (;;) {
      try {
        const lock = this.lock?.held ? this.lock : undefined;
        return await sending(this.tasks.patch(pk, data, { ifMatch: etag, lock }));
      } catch (error) {
        if (!(error instanceof ConflictError) || !error.theirs) throw error;
        const theirs = valuesOf(error.theirs);
        const both = Object.keys(data).some((name) => theirs[name] !== base[name] && theirs[name] !== data[name]);
        let wanted = { ...theirs, ...data }; // the changes do not touch each other: both stay
        if (both) {
          wanted = await resolve({ base, mine, theirs, by: error.by, at: error.at });
          if (wanted === null) return null;
        }
        [base, etag, mine] = [theirs, etagOf(error.theirs), wanted];
        data = Object.fromEntries(differ(wanted, theirs).map((name) => [name, wanted[name]]));
        if (!Object.keys(data).length) return error.theirs;
      }
    }
  }

  async delete() {
    const [pk, { base, etag }] = [this.pk, this];
    const item = this.board.current(pk);
    const lock = this.lock?.held ? this.lock : undefined;
    this._busy(true);
    try {
      await sending(this.tasks.delete(pk, { ifMatch: etag, lock }));
      this.lock?._stop();
      drafts.drop(pk);
      this._busy(false);
      this.dialog.close();
      toast(`Deleted “${base.text}”.`, "Undo", () => this._create({ ...base, list: item?.list }));
    } catch (error) {
      this._busy(false);
      if (error instanceof ConflictError) this._banner("It was changed since you opened it, so it is not deleted. Look at it, and delete it again.");
      else this._refused(error);
      if (error instanceof ConflictError && error.theirs) this.changed(error.theirs);
    }
  }

  discard() {
    const item = this.board.current(this.pk);
    drafts.drop(this.pk);
    this._fill(this.base);
    if (item) this.changed(item);
    this.dialog.close();
  }

  async _undo(saved, before) {
    try {
      await sending(this.tasks.patch(saved, before));
      toast("As it was before.");
    } catch (error) {
      toast(error instanceof ConflictError ? "It was changed again meanwhile, so it stays as it is." : `Not undone: ${error.message}`);
    }
  }

  async _create(values) {
    try {
      await sending(this.tasks.create(values));
    } catch (error) {
      toast(`Not made again: ${error.message}`, "Try again", () => this._create(values), 60);
    }
  }

  /** The task is gone: what was typed can become a new one. */
  async _again() {
    const [pk, list] = [this.pk, this.board.list()];
    await this._create({ ...this.values, list });
    drafts.drop(pk);
    this.dialog.close();
  }

  // What is shown

  _typed() {
    if (this.dirty) drafts.keep(this.pk, { ...this.base, etag: this.etag }, this.values);
    else drafts.drop(this.pk);
    find("button[value=discard]", this.form).hidden = !this.dirty;
    this.board.shown(this.pk);
  }

  _fill(values) {
    for (const name of FIELDS) {
      const input = this.form.elements[name];
      if (name === "done") input.checked = values.done;
      else if (input.value !== values[name]) input.value = values[name];
    }
    find("button[value=discard]", this.form).hidden = !this.dirty;
  }

  _banner(text, ...acts) {
    const buttons = acts.map(([label, act]) => {
      const button = make("button", { type: "button" }, label);
      button.addEventListener("click", act);
      return button;
    });
    find("#editor-banner").replaceChildren(...(text ? [make("p", {}, text), ...buttons] : []));
  }

  _readOnly(value) {
    this.readOnly = value;
    for (const name of ["text", "notes"]) this.form.elements[name].readOnly = value;
    this.form.elements.done.disabled = value;
    for (const name of ["save", "delete"]) find(`button[value=${name}]`, this.form).disabled = value;
  }

  _busy(value) {
    this.saving = value;
    const save = find("button[value=save]", this.form);
    save.textContent = value ? "Saving…" : this.gone ? "Make it again" : "Save";
    save.ariaDisabled = String(value);
  }

  _rest() {
    this._leaving = new AbortController();
    this._readOnly(false);
    this._busy(false);
  }

  _held(holder, since, mine) {
    const typed = this.dirty ? " What you typed stays here." : "";
    this._readOnly(true);
    const who = mine ? "You are editing this in another tab or program" : `${title(holder)} is editing this`;
    this._banner(`${who}${since ? ` since ${time(since)}` : ""}.${typed}`, ["Take over", () => this.hold(true)]);
  }

  _lost(error) {
    this.lock = null;
    const other = this.board.lockOf(this.pk);
    if (other && !other.mine) return this._held(other.holder, other.acquired_at, false);
    announce("You do not hold this task any more.");
    this._banner(
      "You do not hold this task any more: it took too long, or somebody took it over." +
      " What you typed is kept; when you save it is compared with what others saved.",
      ["Hold it again", () => this.hold()],
    );
    if (error.code === "closed") this._banner(error.message);
  }

  _deleted() {
    this.gone = true;
    this._readOnly(false);
    find("button[value=delete]", this.form).disabled = true;
    this._busy(false);
    this._banner("Somebody deleted this task. What you see here is kept until you close it; you can make it again.");
    announce("The task was deleted.");
  }

  _errors(fields) {
    for (const name of ["text", "notes"]) {
      find(`#edit-${name}-error`).textContent = (fields[name] ?? []).join(" ");
      this.form.elements[name].ariaInvalid = String(name in fields);
    }
  }

  _refused(error) {
    if (error instanceof ValidationError && Object.keys(error.fields).length) {
      this._errors(error.fields);
      this._banner("Not saved yet: see below.");
      this.form.elements[FIELDS.find((name) => name in error.fields) ?? "text"].focus();
    } else if (error instanceof LockedError) this._held(error.holder, error.since, error.mine);
    else if (error instanceof LockLostError) this._lost(error);
    else if (error instanceof NotFoundError) this._deleted();
    else this._banner(`Not saved: ${error.message} What you typed is kept.`, ["Try again", () => this.save()]);
  }

  _closed() {
    const { pk, dirty, lock, gone } = this;
    if (pk === null) return;
    this._leaving.abort();
    this.pk = this.lock = null;
    lock?.release().catch(() => {});
    this.board.shown(pk);
    if (dirty && gone && drafts.has(pk)) toast("What you typed is not saved.", "Look at it", () => this.open(pk), 30);
    else if (drafts.has(pk)) toast("Your changes are not saved yet; they are kept here.", "Discard", () => (drafts.drop(pk), this.board.shown(pk)));
    this.board.closed(pk);
  }
}
