// The error of three derivatives of f(x) = x / sqrt(1 + x²) at x = 0.7, for a step h that the reader chooses.
const POINT = 0.7;
const f = (x) => x / Math.sqrt(1 + x * x);
const slope = (x) => (1 + x * x) ** -1.5;

/** Im f(x + ih) */
function imaginary(x, h) {
  const a = 1 + x * x - h * h, b = 2 * x * h; // 1 + (x + ih)² = a + ib
  const p = Math.sqrt((Math.hypot(a, b) + a) / 2), q = b / (2 * p); // its root, p + iq
  return (h * p - x * q) / (p * p + q * q); // of (x + ih) / (p + iq)
}

/** The derivatives by a forward difference, a central one, and the complex step. */
function derivatives(x, h) {
  return [(f(x + h) - f(x)) / h, (f(x + h) - f(x - h)) / (2 * h), imaginary(x, h) / h];
}

/** |derivative − slope|, relative to the slope. */
const errors = (h, x = POINT) => derivatives(x, h).map((d) => Math.abs(d - slope(x)) / slope(x));

const COLOURS = ["#d62728", "#1f77b4", "#2ca02c"];
const NAMES = ["(f(x+h) − f(x)) / h", "(f(x+h) − f(x−h)) / 2h", "Im f(x+ih) / h"];
const LONGEST = 0, SHORTEST = -20, FLOOR = -17; // exponents of h; an error of 0 is drawn at the floor

function draw(place) {
  const NS = "http://www.w3.org/2000/svg";
  const text = place.querySelector("p");
  const label = text.textContent;
  text.hidden = true;
  const box = document.createElement("div");
  const slider = Object.assign(document.createElement("input"), { type: "range", min: SHORTEST, max: LONGEST, step: 0.1, value: -5 });
  slider.setAttribute("aria-label", "log₁₀ h");
  slider.style.cssText = "width: 100%; accent-color: var(--pst-color-primary); direction: rtl";
  const numbers = document.createElement("div");
  numbers.setAttribute("aria-live", "polite");
  numbers.style.cssText = "display: grid; grid-template-columns: max-content 1fr; gap: 0 1em; font: 0.85em/1.6 var(--pst-font-family-monospace)";
  place.append(box, slider, numbers);

  function picture() {
    const width = Math.max(280, place.clientWidth), height = Math.min(320, 0.7 * width);
    const svg = document.createElementNS(NS, "svg");
    const add = (name, attributes, content = "") => {
      const element = document.createElementNS(NS, name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      element.textContent = content;
      svg.append(element);
      return element;
    };
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    svg.style.cssText = "width: 100%; color: var(--pst-color-text-base); font-family: var(--pst-font-family-base)";
    const left = 44, right = width - 16, top = 8, bottom = height - 34;
    const across = (e) => left + ((LONGEST - e) / (LONGEST - SHORTEST)) * (right - left);
    const up = (e) => top + ((1 - Math.max(FLOOR, e)) / (1 - FLOOR)) * (bottom - top);
    const power = (x, y, e, anchor) => {
      const t = add("text", { x, y, "text-anchor": anchor, "font-size": 11, fill: "currentColor" }, "10");
      const up = document.createElementNS(NS, "tspan");
      Object.entries({ dy: -4, "font-size": 8 }).forEach(([key, value]) => up.setAttribute(key, value));
      up.textContent = String(e).replace("-", "−");
      t.append(up);
    };
    const line = { stroke: "currentColor", "stroke-opacity": 0.2 };
    for (let e = LONGEST; e >= SHORTEST; e -= 4) {
      add("line", { x1: across(e), x2: across(e), y1: top, y2: bottom, ...line });
      power(across(e), bottom + 16, e, "middle");
    }
    for (let e = 0; e >= FLOOR + 1; e -= 4) {
      add("line", { x1: left, x2: right, y1: up(e), y2: up(e), ...line });
      power(left - 5, up(e) + 4, e, "end");
    }
    add("text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle", "font-size": 12, "font-style": "italic", fill: "currentColor" }, "h");
    for (let k = 0; k < 3; k++) {
      const points = [];
      for (let e = LONGEST; e >= SHORTEST; e -= 0.1) points.push(`${across(e)},${up(Math.log10(errors(10 ** e)[k]))}`);
      add("polyline", { points: points.join(" "), fill: "none", stroke: COLOURS[k], "stroke-width": 1.5 });
    }
    const cursor = add("line", { y1: top, y2: bottom, stroke: "currentColor", "stroke-dasharray": "3 3" });
    const dots = COLOURS.map((fill) => add("circle", { r: 5, fill }));
    box.replaceChildren(svg);
    return { across, up, cursor, dots };
  }

  function update() {
    const e = Number(slider.value), found = errors(10 ** e);
    shown.cursor.setAttribute("x1", shown.across(e));
    shown.cursor.setAttribute("x2", shown.across(e));
    shown.dots.forEach((dot, k) => {
      dot.setAttribute("cx", shown.across(e));
      dot.setAttribute("cy", shown.up(Math.log10(found[k])));
    });
    const row = (name, value, colour) => [name, value].map((t) => Object.assign(document.createElement("span"), { textContent: t, style: `color: ${colour}` }));
    numbers.replaceChildren(...row("h", (10 ** e).toExponential(1), "inherit"), ...found.flatMap((error, k) => row(NAMES[k], error.toExponential(1), COLOURS[k])));
    slider.setAttribute("aria-valuetext", `h = ${(10 ** e).toExponential(1)}`);
  }

  let shown = picture();
  update();
  slider.addEventListener("input", update);
  new ResizeObserver(() => { shown = picture(); update(); }).observe(place);
}

if (typeof module === "undefined") document.querySelectorAll(".widget-step-size").forEach(draw);
else module.exports = { derivatives, errors }; // for the test
