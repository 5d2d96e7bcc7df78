// A second reader: recomputes every forward array of the vectors from parameters and inputs alone.
//
//     node vectors/reader.mjs vectors/v1 [case …]
//
// It shares no line with minizha and needs Node alone: so it shows that the vectors suffice. One line
// a case; exit status 1 where an error is above TOLERANCE, 2 where a file can't be read. Letters: B
// batch, L tokens, P tokens of the past, J keys, N heads, d head size, K largest relative position.
// Every array is a list of rows, the rows of its last axis: x[b * L + i] is the vector of a token.
import { readFileSync } from "node:fs";
import { join } from "node:path";

const TOLERANCE = 1e-9; // of the largest number of an array
const IGNORED = -100;

function readSafetensors(path) {
  // 8 bytes with the length of a JSON header, the header, the numbers (little-endian)
  const bytes = readFileSync(path), first = 8 + Number(bytes.readBigUInt64LE(0)), arrays = {};
  const { __metadata__, ...entries } = JSON.parse(bytes.toString("utf8", 8, first));
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(entries)) {
    const raw = Uint8Array.from(bytes.subarray(first + start, first + end)).buffer;
    const data = dtype === "F64" ? [...new Float64Array(raw)] : [...new BigInt64Array(raw)].map(Number);
    arrays[name] = { dtype, shape, data, rows: split(data, shape.at(-1) ?? 1) };
  }
  return arrays;
}

const split = (list, n) => Array.from({ length: list.length / n }, (_, k) => list.slice(k * n, (k + 1) * n));
const add = (a, b) => a.map((value, i) => value + b[i]);
const addRows = (x, y) => x.map((row, t) => add(row, y[t]));
const times = (a, b) => a.map((value, i) => value * b[i]);
const sum = (a) => a.reduce((s, value) => s + value, 0);
const mean = (a) => (a.length ? sum(a) / a.length : 0);
const dot = (a, b) => sum(times(a, b));
const silu = (x) => x / (1 + Math.exp(-x));

// Φ(x), the probability that a normal number lies below x. Near 0: φ(x)·(x + x³/3 + x⁵/15 + …), whose
// terms have one sign; far from 0: the continued fraction φ(z) / (z + 1/(z + 2/(z + 3/(z + …)))).
function normalCdf(x) {
  const z = Math.abs(x), density = Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI);
  if (z < 3) {
    let term = x, series = x;
    for (let n = 3; Math.abs(term) > 1e-18 * Math.abs(series); n += 2) series += term *= (x * x) / n;
    return 0.5 + density * series;
  }
  let fraction = z;
  for (let n = 100; n > 0; n--) fraction = z + n / fraction;
  return x > 0 ? 1 - density / fraction : density / fraction;
}

const ACTIVATIONS = {
  gelu: (x) => x * normalCdf(x),
  gelu_new: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  relu: (x) => Math.max(x, 0), silu, swish: silu, tanh: Math.tanh,
};

function softmax(scores) {
  const largest = Math.max(...scores), powers = scores.map((s) => Math.exp(s - largest));
  return powers.map((p) => p / sum(powers));
}

function crossEntropy(logits, labels) { // the mean over the rows that have a label
  const asked = logits.map((row, t) => [softmax(row), labels[t]]).filter(([, label]) => label !== IGNORED);
  return mean(asked.map(([probs, label]) => -Math.log(probs[label])));
}

class Forward {
  constructor(about, given) {
    Object.assign(this, { about, config: about.config, given, trace: {} });
    const shape = this.input("input_ids")?.shape ?? this.input("inputs_embeds").shape.slice(0, -1);
    this.L = shape.at(-1);
    this.B = shape.slice(0, -1).reduce((a, b) => a * b); // multiple choice: every choice is a text
    this.choices = shape.length === 3 ? shape[1] : 0;
    this.d = this.config.hidden_size / this.config.num_attention_heads;
    this.P = this.input("past_key_values.0.0")?.shape[2] ?? 0;
    this.act = (row) => row.map(ACTIVATIONS[this.config.hidden_act]);
  }
  input(name) { return this.given[`inputs/${name}`]; }
  parameter(name) { return this.given[`parameters/nezha.${name}`] ?? this.given[`parameters/${name}`]; }
  keep(name, rows) { return (this.trace[name] = rows); }
  dropout(name, x) { // the factors were drawn once, and stand among the expected arrays
    const factor = this.given[`expected/${name}.dropout`];
    return factor ? x.map((row, t) => times(row, factor.rows[t])) : x;
  }
  dense(name, x, weight = this.parameter(`${name}.weight`), bias = this.parameter(`${name}.bias`)) {
    return this.keep(name, x.map((row) => weight.rows.map((w, o) => dot(w, row) + bias.data[o])));
  }
  layerNorm(name, x, step = `${name}.LayerNorm`) {
    const weight = this.parameter(`${step}.weight`).data, bias = this.parameter(`${step}.bias`).data;
    return this.keep(name, x.map((row) => {
      const centred = row.map((v) => v - mean(row)), variance = mean(times(centred, centred));
      const scale = 1 / Math.sqrt(variance + this.config.layer_norm_eps);
      return centred.map((v, c) => v * scale * weight[c] + bias[c]);
    }));
  }
  embeddings() {
    const look = (table, ids) => ids.map((id) => this.parameter(`embeddings.${table}.weight`).rows[id]);
    const words = this.input("inputs_embeds")?.rows ?? look("word_embeddings", this.input("input_ids").data);
    const types = look("token_type_embeddings", this.input("token_type_ids")?.data ?? words.map(() => 0));
    this.keep("embeddings.word_embeddings", words);
    this.keep("embeddings.token_type_embeddings", types);
    const x = this.layerNorm("embeddings.LayerNorm", addRows(words, types), "embeddings.LayerNorm");
    return this.keep("embeddings", this.dropout("embeddings", x));
  }
  relation(distance) { // row clip(distance) + K of a table in which sine and cosine alternate
    const K = this.config.max_relative_position, row = Math.min(Math.max(distance, -K), K) + K;
    const angle = (c) => row * Math.exp(((c - (c % 2)) * -Math.log(10000)) / this.d);
    return Array.from({ length: this.d }, (_, c) => (c % 2 ? Math.cos : Math.sin)(angle(c)));
  }
  visible(name, b, i, j) { // a 2-D mask speaks for all queries, and in a decoder together with causality
    const mask = this.input(name), decodes = name === "attention_mask" && this.config.is_decoder;
    if (mask?.shape.length === 3 && !this.choices) return mask.rows[b * this.L + i][j];
    return (mask ? mask.rows[b][j] : 1) * (decodes && j > this.P + i ? 0 : 1);
  }
  headMask(layer) { // one row for all layers, or a row a layer
    const rows = this.input("head_mask")?.rows;
    return rows?.[rows.length > 1 ? layer : 0];
  }
  // x asks, source answers; the past's keys and values, (B, N, P, d), stand before those of the source
  attention({ name, layer, heads, x, source, past, maskName }) {
    const { B, L, P, d } = this, part = (row, n) => row.slice(n * d, (n + 1) * d);
    const factors = this.headMask(layer);
    const query = this.dense(`${name}.self.query`, x), context = x.map(() => []), scores = [], probs = [];
    const [key, value] = ["key", "value"].map((w) => (source ? this.dense(`${name}.self.${w}`, source) : []));
    const relation = (i, j) => this.relation(j - (P + i)), rows = []; // rows: of which b, n and i
    const all = (old, fresh, b, n) => [ // keys, or values, of one head
      ...(old ? split(old.rows, old.shape[2])[b * heads.length + n] : []),
      ...split(fresh, fresh.length / B)[b]?.map((row) => part(row, n)) ?? [],
    ];
    for (let b = 0; b < B; b++) for (let n = 0; n < heads.length; n++) for (let i = 0; i < L; i++) {
      const q = part(query[b * L + i], n), keys = all(past?.[0], key, b, n);
      rows.push([b, n, i]);
      scores.push(keys.map((k, j) => dot(q, add(k, relation(i, j))) / Math.sqrt(d)));
      const hidden = (j) => (1 - this.visible(maskName, b, i, j)) * -Number.MAX_VALUE;
      probs.push(softmax(scores.at(-1).map((s, j) => s + hidden(j))));
    }
    this.keep(`${name}.scores`, scores);
    const weights = this.dropout(name, this.keep(`${name}.probs`, probs)).map((row, r) => {
      return factors ? row.map((p) => p * factors[heads[rows[r][1]]]) : row;
    });
    this.keep(`${name}.weights`, weights).forEach((row, r) => {
      const [b, n, i] = rows[r], values = all(past?.[1], value, b, n).map((v, j) => add(v, relation(i, j)));
      for (let c = 0; c < d; c++) context[b * L + i].push(sum(row.map((w, j) => w * values[j][c])));
    });
    const y = this.dense(`${name}.output.dense`, this.keep(`${name}.context`, context));
    return this.layerNorm(`${name}.output`, addRows(this.dropout(`${name}.output`, y), x));
  }
  layer(i, x) {
    const name = `encoder.layer.${i}`, states = this.input("encoder_hidden_states");
    const all = [...Array(this.config.num_attention_heads).keys()];
    const left = all.filter((n) => !this.config.pruned_heads[i]?.includes(n));
    const past = [0, 1, 2, 3].map((place) => this.input(`past_key_values.${i}.${place}`));
    let h = this.attention({
      name: `${name}.attention`, layer: i, heads: left, x, source: x, past, maskName: "attention_mask",
    });
    if (past[2] || states) h = this.attention({
      name: `${name}.crossattention`, layer: i, heads: all, x: h, source: past[2] ? null : states.rows,
      past: past.slice(2), maskName: "encoder_attention_mask",
    });
    const wide = this.dense(`${name}.intermediate.dense`, h).map(this.act);
    const y = this.dense(`${name}.output.dense`, this.keep(`${name}.intermediate`, wide));
    return this.layerNorm(name, addRows(this.dropout(`${name}.output`, y), h), `${name}.output.LayerNorm`);
  }
  run() {
    let x = this.embeddings();
    for (let i = 0; i < this.config.num_hidden_layers; i++) x = this.layer(i, x);
    const has = (name) => this.parameter(name) !== undefined;
    const pooled = has("pooler.dense.weight") && this.pooler(split(x, this.L).map(([first]) => first));
    if (has("cls.predictions.bias")) {
      const name = "cls.predictions.transform";
      const y = this.keep(`${name}.activation`, this.dense(`${name}.dense`, x).map(this.act));
      const tied = this.parameter("embeddings.word_embeddings.weight");
      const decoder = this.parameter("cls.predictions.decoder.weight") ?? tied;
      this.dense("cls.predictions", this.layerNorm(name, y), decoder);
    }
    if (has("cls.seq_relationship.weight")) this.dense("cls.seq_relationship", pooled);
    if (has("classifier.weight")) this.dense("classifier", this.dropout("classifier", pooled || x));
    if (has("qa_outputs.weight")) this.dense("qa_outputs", x);
    this.losses(this.trace);
    return this.trace;
  }
  pooler(x) {
    return this.keep("pooler", this.dense("pooler.dense", x).map((row) => row.map(Math.tanh)));
  }
  losses({ "cls.predictions": words, "cls.seq_relationship": pairs, classifier, qa_outputs: places }) {
    const labels = this.input("labels"), terms = [];
    const next = this.input("next_sentence_label") ?? (words ? undefined : labels);
    const term = (name, value) => terms.push(this.keep(name, [[value]])[0][0]);
    if (words && labels) term("masked_lm_loss", crossEntropy(words, labels.data));
    if (pairs && next) term("next_sentence_loss", crossEntropy(pairs, next.data));
    if (classifier && labels) terms.push(this.classifierLoss(classifier, labels));
    if (places && this.input("start_positions")) terms.push(mean(["start", "end"].map((end, column) => {
      const inside = this.input(`${end}_positions`).data.map((p) => (p >= 0 && p < this.L ? p : IGNORED));
      return crossEntropy(split(places.map((row) => row[column]), this.L), inside);
    })));
    if (terms.length) this.keep("loss", [[sum(terms)]]);
  }
  classifierLoss(rows, { data, dtype }) {
    const kind = this.about.class, logits = rows.flat();
    if (kind === "NezhaForMultipleChoice") return crossEntropy(split(logits, this.choices), data);
    if (kind === "NezhaForTokenClassification") return crossEntropy(rows, data);
    const labels = dtype === "I64" ? "single_label_classification" : "multi_label_classification";
    const problem = this.config.problem_type ?? (rows[0].length === 1 ? "regression" : labels);
    if (problem === "single_label_classification") return crossEntropy(rows, data);
    if (problem === "regression") return mean(logits.map((z, k) => (z - data[k]) ** 2));
    return mean(logits.map((z, k) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))) - data[k] * z));
  }
}

function check(folder, name) { // whether a case is equal; the line says which array is farthest off
  const about = JSON.parse(readFileSync(join(folder, "cases", `${name}.json`), "utf8"));
  const given = readSafetensors(join(folder, "cases", `${name}.safetensors`));
  const trace = new Forward(about, given).run();
  const names = about.expected.filter((n) => !n.endsWith(".grad") && !n.endsWith(".dropout"));
  const errors = names.map((n) => {
    const { data } = given[`expected/${n}`], found = trace[n]?.flat() ?? [];
    const off = found.length === data.length ? data.map((v, k) => Math.abs(v - found[k])) : [NaN];
    return { n, error: Math.max(...off) / (Math.max(...data.map(Math.abs)) || 1) }; // of a NaN: NaN
  });
  const worst = errors.reduce((a, b) => (b.error <= a.error || Number.isNaN(a.error) ? a : b));
  const equal = worst.error <= TOLERANCE, most = `${worst.error.toExponential(1)} (${worst.n})`;
  console.log(`${equal ? "equal    " : "DIFFERENT"} ${name}: ${names.length} arrays, largest error ${most}`);
  return equal;
}

try {
  const [folder, ...chosen] = process.argv.slice(2);
  if (!folder) throw new Error("usage: node vectors/reader.mjs vectors/v1 [case …]");
  const every = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")).cases;
  const equal = (chosen.length ? chosen : every).map((name) => check(folder, name));
  process.exitCode = equal.every(Boolean) ? 0 : 1;
} catch (error) {
  console.error(`reader.mjs: ${error.message}`);
  process.exitCode = 2;
}
