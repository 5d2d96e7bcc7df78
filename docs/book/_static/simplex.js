// Three logits z, the point p = softmax(z) of the triangle of all distributions, the label y with its
// one-hot row Y, and the arrow -(p - Y), against the gradient of the loss.
{
  const softmax = (z) => {
    const largest = Math.max(...z);
    const e = z.map((v) => Math.exp(v - largest));
    const sum = e.reduce((a, b) => a + b);
    return e.map((v) => v / sum);
  };
  const loss = (z, label) => {
    const largest = Math.max(...z);
    return largest + Math.log(z.reduce((sum, v) => sum + Math.exp(v - largest), 0)) - z[label];
  };
  const gradient = (z, label) => softmax(z).map((p, k) => p - (k === label ? 1 : 0));

  const CORNERS = [[20, 240], [280, 240], [150, 20]];
  const place = (p) => [0, 1].map((axis) => p.reduce((sum, v, k) => sum + v * CORNERS[k][axis], 0));
  const shown = (v) => (Math.abs(v) < 0.0005 ? 0 : v).toFixed(3).replace("-", "\u2212");
  const INDEX = ["\u2081", "\u2082", "\u2083"];

  const draw = (box) => {
    const text = box.querySelector("p");
    const root = document.createElement("div");
    text.hidden = true;
    box.append(root);
    const z = [1, 0, -1];
    let label = 2;
    const trail = [];
    const arrow = "simplex-arrow";
    root.innerHTML = `
      <svg viewBox="0 -12 300 282" role="img">
        <defs><marker id="${arrow}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
          <path d="M0 0 8 4 0 8z" fill="var(--pst-color-primary)"/></marker></defs>
        <path d="M${CORNERS.join("L")}Z" fill="none" stroke="currentColor" stroke-opacity="0.5"/>
        <circle class="ring" r="12" fill="none" stroke="var(--pst-color-success)" stroke-width="3"/>
        ${CORNERS.map(([x, y], k) => `<text x="${x}" y="${y + (k === 2 ? -18 : 24)}" text-anchor="middle" font-size="15">p${INDEX[k]} = 1</text>`).join("")}
        <g class="trail" fill="var(--pst-color-text-muted)"></g>
        <line class="arrow" stroke="var(--pst-color-primary)" stroke-width="2.5" marker-end="url(#${arrow})"/>
        <circle class="point" r="6" fill="var(--pst-color-danger)"/>
      </svg>
      <div>
        <table><thead><tr><th></th><th>z</th><th>p</th><th>p \u2212 Y</th><th>y</th></tr></thead><tbody>
          ${INDEX.map((i, k) => `<tr><td><input type="range" min="-6" max="6" step="0.1" data-k="${k}" aria-label="z${i}"></td>
            <td class="z"></td><td class="p"></td><td class="g"></td>
            <td><input type="radio" name="simplex-label" value="${k}" aria-label="y = ${k + 1}"></td></tr>`).join("")}
        </tbody></table>
        <p>\u2113 = <output aria-live="polite"></output></p>
        <button type="button" class="step">z \u2190 z \u2212 (p \u2212 Y)</button>
        <button type="button" class="reset" aria-label="z = 1, 0, \u22121">\u21ba</button>
      </div>`;
    root.querySelector("svg").setAttribute("aria-label", text.textContent);
    const all = (selector) => [...root.querySelectorAll(selector)];
    const one = (selector) => root.querySelector(selector);

    const update = () => {
      const p = softmax(z);
      const g = gradient(z, label);
      const [x, y] = place(p);
      const [cx, cy] = CORNERS[label];
      const rest = Math.hypot(cx - x, cy - y);
      all("input[type=range]").forEach((input, k) => { input.value = z[k]; });
      all("input[type=radio]").forEach((input, k) => { input.checked = k === label; });
      all(".z").forEach((cell, k) => { cell.textContent = shown(z[k]); });
      all(".p").forEach((cell, k) => { cell.textContent = shown(p[k]); });
      all(".g").forEach((cell, k) => { cell.textContent = shown(g[k]); });
      one("output").textContent = shown(loss(z, label));
      const set = (node, values) => Object.entries(values).forEach(([key, v]) => node.setAttribute(key, v));
      set(one(".point"), { cx: x, cy: y });
      set(one(".ring"), { cx, cy });
      set(one(".arrow"), { x1: x, y1: y, x2: cx, y2: cy, visibility: rest > 9 ? "visible" : "hidden" });
      one(".trail").innerHTML = trail.map(([u, v]) => `<circle cx="${u}" cy="${v}" r="3"/>`).join("");
    };
    all("input[type=range]").forEach((input) => input.addEventListener("input", () => {
      z[+input.dataset.k] = +input.value;
      trail.length = 0;
      update();
    }));
    all("input[type=radio]").forEach((input) => input.addEventListener("change", () => {
      label = +input.value;
      trail.length = 0;
      update();
    }));
    one(".step").addEventListener("click", () => {
      trail.push(place(softmax(z)));
      gradient(z, label).forEach((g, k) => { z[k] -= g; });
      update();
    });
    one(".reset").addEventListener("click", () => {
      z.splice(0, 3, 1, 0, -1);
      trail.length = 0;
      update();
    });
    update();
  };

  if (typeof document !== "undefined") document.querySelectorAll(".widget-simplex").forEach(draw);
  if (typeof module !== "undefined") module.exports = { softmax, loss, gradient };
}
