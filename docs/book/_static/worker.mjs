// Python with NumPy and minizha, for exercise.js. All files are the site's own.
const runtime = new URL("../../runtime/", import.meta.url);

async function load() {
  const { loadPyodide } = await import(new URL("pyodide.mjs", runtime));
  const python = await loadPyodide({ indexURL: runtime.href });
  postMessage({ loaded: 0.5 });
  await python.loadPackage("numpy", { messageCallback: () => {} });
  postMessage({ loaded: 0.8 });
  const wheel = await fetch(new URL("minizha.whl", runtime));
  if (!wheel.ok) throw new Error(`minizha.whl: ${wheel.status}`);
  python.unpackArchive(await wheel.arrayBuffer(), "wheel");
  const verdict = python.runPython("from minizha.exercises import verdict\nverdict");
  postMessage({ loaded: 1 });
  return verdict;
}

const ready = load();
ready.catch(() => {}); // it is told with the first message

onmessage = async ({ data }) => {
  try {
    const verdict = await ready;
    const found = verdict(data.id, data.text, data.language);
    postMessage({ ok: found.ok ?? null, text: found.text });
    found.destroy();
  } catch (error) {
    postMessage({ ok: null, failed: String(error.message ?? error) });
  }
};
