// "This number is wrong": the form, and what the library answers.

import { element, fill, number, say } from "/static/element.js";
import { rowsTable } from "/static/rows.js";
import { describe } from "/static/chart.js";

async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const found = await answer.json().catch(() => ({ error: `The server says ${answer.status}.` }));
  if (!answer.ok) throw new Error(found.error);
  return found;
}

let counted = 0;

export class Complaint {
  constructor(monitor) {
    this.monitor = monitor;
    this.root = element("section", { class: "complaint", hidden: true, "aria-label": "Complaint" });
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.shut();
    });
  }

  // A form for what was brushed. cells(): those chosen now, as they are now.
  open(chart, close) {
    const cells = chart.cells();
    if (!cells.length) return;
    this.chart = chart;
    this.close = close;
    counted += 1;
    const name = `wanted-${counted}`;
    const target = element("input", {
      type: "number",
      step: "any",
      "aria-label": "What it should be",
    });
    const radio = (value, text, extra) =>
      element(
        "label",
        {},
        element("input", { type: "radio", name, value }),
        text,
        extra,
      );
    target.addEventListener("input", () => {
      this.form.elements[name].value = "number";
    });
    this.name = name;
    this.touched = false;
    this.legend = element("legend", {});
    this.each = element("span", {});
    this.why = element("p", { class: "note" });
    this.what = element("p", {});
    this.answer = element("div", { class: "answer" });
    this.form = element(
      "form",
      {
        onsubmit: (event) => this.#send(event, name, target),
        oninput: (event) => {
          if (event.target.type !== "select-one") this.#touch();
        },
      },
      element(
        "fieldset",
        {},
        this.legend,
        radio("higher", "too low"),
        radio("lower", "too high"),
        radio("number", this.each, target),
      ),
      this.why,
    );
    const groups = this.#groups(chart);
    const buttons = element(
      "div",
      { class: "row" },
      groups,
      element("button", { type: "submit" }, "Find the training rows"),
      element("button", { type: "button", class: "plain", onclick: () => this.shut() }, "Cancel"),
    );
    this.form.append(buttons);
    fill(this.root, this.what, this.form, this.answer);
    this.#suggest();
    this.refresh();
    this.root.hidden = false;
  }

  #touch() {
    this.touched = true;
    say(this.why, "");
  }

  // Nothing is chosen for the reader, unless an alarm of these numbers says which way they are wrong.
  #suggest() {
    const { names, should } = this.chart.saysOf(this.chart.cells());
    const chosen = { increase: "higher", decrease: "lower" }[should] ?? null;
    for (const input of this.form.elements[this.name]) input.checked = input.value === chosen;
    const words = chosen === "higher" ? "too low" : "too high";
    say(this.why, chosen ? `"${words}" is what the alarm ${names.join(", ")} says.` : "");
  }

  #groups(chart) {
    const column = chart.column;
    if (column.groups.size < 2) return null;
    const now = chart.range?.keys ?? [chart.cursor.key];
    const every = "every group shown";
    const select = element(
      "select",
      { "aria-label": "Group" },
      ...chart.shown.map((key) =>
        element("option", { value: key, selected: now.length === 1 && now[0] === key },
          column.groups.get(key)?.label ?? ""),
      ),
      element("option", { value: "", selected: now.length > 1 }, every),
    );
    select.addEventListener("change", () => {
      chart.select(select.value === "" ? [...chart.shown] : [select.value]);
      if (!this.touched) this.#suggest();
      this.refresh();
    });
    return select;
  }

  refresh() {
    if (!this.chart || !this.what) return;
    const cells = this.chart.cells();
    say(this.what, describe(cells));
    say(this.legend, cells.length > 1 ? "These numbers are wrong" : "This number is wrong");
    say(this.each, cells.length > 1 ? "each should be" : "should be");
  }

  focus() {
    (this.root.querySelector("input:checked") ?? this.root.querySelector("input"))?.focus();
  }

  shut() {
    this.root.hidden = true;
    this.what = null;
    this.chart?.clear();
    this.close?.();
  }

  #send(event, name, target) {
    event.preventDefault();
    let wanted = this.form.elements[name].value;
    if (!wanted) {
      this.#refuse("Say first what is wrong: too low, too high, or what it should be.");
      this.focus();
      return;
    }
    if (wanted === "number") {
      wanted = target.value === "" ? NaN : Number(target.value);
      if (!Number.isFinite(wanted)) {
        this.#refuse("Say what it should be.");
        target.focus();
        return;
      }
    }
    const seqs = this.chart.cells().map((cell) => cell.seq);
    if (!seqs.length) {
      this.#refuse("Nothing is there: choose another group, or other windows.");
      return;
    }
    this.rank({ monitor: this.monitor, seqs, wanted }, typeof wanted === "number");
  }

  #refuse(text) {
    fill(this.answer, element("p", { class: "error", role: "alert" }, text));
  }

  // Of an alarm, which says itself what it should be.
  async explain(alarm) {
    const opener = document.activeElement;
    this.what = null;
    this.chart = null;
    this.close = () => opener?.focus();
    this.answer = element("div", { class: "answer" });
    fill(
      this.root,
      element("div", { class: "row" },
        element("h3", {}, `Behind the alarm ${alarm.name}`),
        element("button", { type: "button", class: "plain", onclick: () => this.shut() }, "Close")),
      this.answer,
    );
    this.root.hidden = false;
    await this.rank({ monitor: this.monitor, seqs: [alarm.seq], wanted: null }, true);
  }

  async rank(body, hasTarget) {
    const answer = this.answer;
    fill(answer, element("p", { class: "quiet", role: "status" }, "Ranking the training rows ..."));
    try {
      const found = await ask("/api/complaints", body);
      this.#show(answer, found, hasTarget);
    } catch (problem) {
      fill(answer, element("p", { class: "error", role: "alert" }, problem.message));
    }
  }

  #show(answer, found, hasTarget) {
    const title = element("h3", { tabindex: "-1" }, "Training rows behind it");
    const facts = element("ul", { class: "facts" });
    for (const line of found.about) facts.append(element("li", {}, line));
    if (found.numbers > found.about.length) {
      facts.append(element("li", {}, `and ${found.numbers - found.about.length} numbers more`));
    }
    const coverage = element("li", {}, "coverage: being computed ...");
    facts.append(coverage);
    for (const one of found.reactions) {
      // Without a target nothing is ever enough, and nobody asked.
      const words = found.aimed ? one.words : one.words.replace(/, not enough$/, "");
      facts.append(element("li", {}, words));
    }
    if (!found.reactions.length) facts.append(element("li", {}, "no change is predicted to help"));
    fill(
      answer,
      title,
      facts,
      found.note ? element("p", { class: "note" }, found.note) : null,
      rowsTable(found),
      this.#tools(found, hasTarget),
    );
    title.focus({ preventScroll: true });
    answer.scrollIntoView({ block: "nearest" });
    ask(`/api/complaints/${found.id}/coverage`).then(
      (got) => {
        const share = Math.round(1000 * got.coverage) / 10;
        const fight = got.cosine !== null && got.cosine < -0.2
          ? `; some of these numbers fight (cosine ${number(got.cosine)}): what helps one harms another`
          : "";
        say(coverage, `coverage: the index captures ${share} % of the gradient of this complaint${fight}`);
      },
      (problem) => say(coverage, `coverage is not known: ${problem.message}`),
    );
  }

  #tools(found, hasTarget) {
    const count = element("input", {
      type: "number",
      min: "1",
      max: "10000",
      value: "20",
      "aria-label": "Rows in the patch",
    });
    // A suggestion is of one kind of change; the best of all mix them.
    const offer = (kind, text, rows) => element("option", { value: kind, "data-rows": rows }, text);
    const what = element(
      "select",
      { "aria-label": "What is in the patch" },
      ...found.reactions.map((one) =>
        offer(one.kind, `the suggestion: ${one.kind} ${number(one.rows)} rows`, one.rows)),
      offer("all", "the best of all changes, mixed"),
    );
    const many = element("span", { class: "row" }, count, "rows");
    const form = element(
      "select",
      { "aria-label": "Form of the patch" },
      ...["parquet", "csv", "json"].map((name) => element("option", { value: name }, name)),
    );
    const link = element("a", { class: "button", download: "" }, "Download the patch");
    const point = () => {
      const fixed = what.selectedOptions[0].dataset.rows;
      many.hidden = fixed !== undefined;
      const query = new URLSearchParams({
        kind: what.value, rows: fixed ?? count.value, form: form.value,
      });
      link.href = `/api/complaints/${found.id}/patch?${query}`;
    };
    what.addEventListener("change", point);
    count.addEventListener("input", point);
    form.addEventListener("change", point);
    point();
    const said = element("div", { role: "status" });
    const rest = element("div", { class: "row" });
    rest.append(
      element("button", { type: "button", class: "plain", onclick: (event) =>
        this.#later(event.target, said, found.id, "rules") }, "What do they share?"),
    );
    // A fix is found by training steps over the training rows.
    if (hasTarget && found.patch) {
      rest.append(
        element("button", { type: "button", class: "plain", onclick: (event) =>
          this.#later(event.target, said, found.id, "fix", (got) => {
            what.querySelector("[value=fix]")?.remove();
            what.append(offer("fix", `the ${number(got.rows)} rows together`, got.rows));
            what.value = "fix";
            point();
          }) }, "How many rows are enough?"),
      );
    }
    const patch = found.patch
      ? element("div", { class: "row" }, element("span", {}, "Patch of"), what, many,
          element("span", {}, "as"), form, link)
      : null;
    return element("div", { class: "complaint-tools" }, patch, rest, said);
  }

  async #later(button, said, id, what, then) {
    button.disabled = true;
    fill(said, element("p", { class: "quiet" }, "Computing ..."));
    try {
      const got = await ask(`/api/complaints/${id}/${what}`);
      fill(said, what === "fix" ? fixWords(got) : rulesList(got.rules));
      then?.(got);
    } catch (problem) {
      fill(said, element("p", { class: "error" }, problem.message));
    }
    button.disabled = false;
  }
}

function fixWords(got) {
  const kinds = Object.entries(got.kinds).map(([kind, rows]) => `${rows} to ${kind}`).join(", ");
  const enough = got.resolves ? "that is enough" : "that is not enough";
  return element(
    "p",
    {},
    `${number(got.rows)} rows together (${kinds}) are predicted to move the number by ` +
      `${number(got.reached)} of ${number(got.needed)}: ${enough}.`,
  );
}

function rulesList(rules) {
  return element(
    "ul",
    { class: "facts" },
    ...rules.map((rule) =>
      element("li", {},
        `${rule.predicate}: ${number(rule.rows)} rows, ${Math.round(100 * rule.precision)} % of them ` +
        `and ${Math.round(100 * rule.recall)} % of the top`)),
  );
}
