// Exercises: what the reader writes is checked by minizha itself, in a worker that runs Python (worker.mjs).
// It is loaded at the first click. Nothing leaves the page; what was written is kept in the browser's storage.
(() => {
  const here = document.currentScript.src;
  const WORDS = {
    en: {
      loading: "Python is being loaded …", running: "Checking …", stopped: "Stopped.",
      mine: "Back to mine", served: "To check exercises, serve this folder: python -m http.server",
      failed: "Python could not be loaded: ",
    },
    zh: {
      loading: "正在加载 Python……", running: "正在检查……", stopped: "已停止。",
      mine: "恢复我写的", served: "要检查练习，请在此文件夹中运行：python -m http.server",
      failed: "无法加载 Python：",
    },
  };

  let worker = null; // {post, end}; one for all exercises of the page
  let waiting = null; // the exercise that is being checked: {show, done}

  const stored = {
    get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
    set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* no storage: the page works without */ } },
  };

  function start() {
    worker = new Worker(new URL("worker.mjs", here), { type: "module" });
    worker.onmessage = ({ data }) => {
      if (data.loaded !== undefined) waiting?.loaded(data.loaded);
      else { waiting?.done(data); waiting = null; }
    };
    worker.onerror = (event) => { waiting?.done({ ok: null, failed: event.message ?? "" }); end(); };
  }

  function end() {
    worker?.terminate();
    worker = waiting = null;
  }

  function set_up(box) {
    const { id, version, language } = box.dataset;
    const words = WORDS[language] ?? WORDS.en;
    const key = `minizha-exercise-${id}-${version}`;
    const area = box.querySelector("textarea");
    const [check, stop, reset] = ["check", "stop", "reset"].map((name) => box.querySelector(`button.${name}`));
    const verdict = box.querySelector(".verdict");
    const [first, again] = [area.defaultValue, reset.textContent];
    // all texts of the reader are kept: the button goes from one to the next, and to the start
    const texts = [first, ...JSON.parse(stored.get(`${key}-texts`) ?? "[]")];
    const label = () => {
      const here = texts.indexOf(area.value);
      reset.textContent = here >= 0 && here < texts.length - 1 ? words.mine : again;
    };

    area.value = stored.get(key) ?? first;
    box.classList.toggle("solved", stored.get(`${key}-solved`) === "1");
    label();
    area.addEventListener("input", () => { stored.set(key, area.value); label(); });
    area.addEventListener("keydown", (event) => { // a new line begins where the one before it does
      if (event.key !== "Enter" || event.ctrlKey || event.metaKey || event.isComposing) return;
      const line = area.value.slice(0, area.selectionStart).split("\n").at(-1);
      const deeper = line.trimEnd().endsWith(":") ? "    " : "";
      if (document.execCommand("insertText", false, `\n${line.match(/^ */)[0]}${deeper}`)) event.preventDefault();
    });

    reset.onclick = () => {
      if (!texts.includes(area.value)) {
        texts.push(area.value);
        stored.set(`${key}-texts`, JSON.stringify(texts.slice(1)));
      }
      area.value = texts[(texts.indexOf(area.value) + 1) % texts.length];
      stored.set(key, area.value);
      label();
    };
    const show = (text, ok) => {
      verdict.hidden = false;
      verdict.textContent = text;
      box.classList.toggle("right", ok === true);
      box.classList.toggle("wrong", ok === false);
    };
    const busy = (yes) => { check.disabled = yes; stop.hidden = !yes; };
    stop.onclick = () => { end(); busy(false); show(words.stopped); };
    check.onclick = () => {
      if (location.protocol === "file:") return show(words.served);
      if (waiting) return;
      busy(true);
      const began = performance.now();
      waiting = {
        loaded: (share) => show(share < 1 ? `${words.loading} ${Math.round(100 * share)} %` : words.running),
        done: ({ ok, text, failed }) => {
          busy(false);
          show(failed === undefined ? text : words.failed + failed, ok);
          box.dataset.seconds = ((performance.now() - began) / 1e3).toFixed(3);
          if (ok === true) { stored.set(`${key}-solved`, "1"); box.classList.add("solved"); }
        },
      };
      show(worker ? words.running : `${words.loading} 0 %`);
      if (!worker) start();
      worker.postMessage({ id, language, text: area.value });
    };
  }

  document.querySelectorAll(".exercise-check").forEach(set_up);
})();
