"""The style sheet of the HTML report. Each colour has a name and two values, for a light and a dark
background; h0 to h9 are the colours of the heat map, from the smallest error to the largest."""

_LIGHT_HEAT = "#fdf0df #fbdfbb #f9c793 #f5aa6d #ee8850 #e0643f #c8423a #a62938 #801935 #560c2a"
_DARK_HEAT = "#2b2531 #43283a #602b41 #803045 #a03a46 #bf4c46 #d86845 #eb8d50 #f6b672 #fde3ae"


def _heat(colors: str) -> str:
    return " ".join(f"--h{i}: {color};" for i, color in enumerate(colors.split()))


_LIGHT = f"""
  --page: #faf9f6; --card: #ffffff; --ink: #1d2126; --soft: #5d656e; --line: #dcd9d2;
  --good: #1a7f4b; --bad: #c2271d; --blue: #2f5fb3; --band: #dcefe3; --tint: #f1efe9;
  --odd: #4a5bd4; {_heat(_LIGHT_HEAT)}"""
_DARK = f"""
  --page: #14171b; --card: #1b1f25; --ink: #e6e4df; --soft: #9aa3ad; --line: #363d46;
  --good: #58c48a; --bad: #ff7b6b; --blue: #83abf0; --band: #1d3a2a; --tint: #232932;
  --odd: #7f93ff; {_heat(_DARK_HEAT)}"""

STYLE = (
    f":root {{ color-scheme: light dark;{_LIGHT} }}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{{_DARK} }} }}\n"
    + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1020px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: 0 0 12px; overflow-wrap: anywhere; }
h1 span { padding: 1px 12px 3px; border-radius: 6px; color: var(--card); margin-right: 4px; }
h1 .same { background: var(--good); }
h1 .other { background: var(--bad); }
h2 { font-size: 1.1rem; margin: 0 0 10px; overflow-wrap: anywhere; }
code { font: .92em ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.brand { margin: 0 0 6px; color: var(--soft); font-size: .85rem; letter-spacing: .04em; }
.facts, .legend { list-style: none; margin: 0 0 8px; padding: 0; display: flex; flex-wrap: wrap;
  gap: 4px 24px; color: var(--soft); font-size: .92rem; }
.facts b { color: var(--ink); font-size: 1.1rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin: 18px 0; }
section p { margin: 0 0 10px; overflow-wrap: anywhere; }
p.other, tr.other { color: var(--bad); }
ul { margin: 0 0 12px; padding-left: 1.3em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0 0 12px; }
th, td { text-align: right; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; }
.sizes th:first-child, .sizes td:first-child, .why th:first-child, .why td:first-child {
  text-align: left; }
.sizes td:nth-child(2) { color: var(--bad); font-weight: 600; }
.why { width: 100%; }
.arrays { font-size: .82rem; }
.arrays td, .sizes td { white-space: nowrap; }
.arrays th { vertical-align: bottom; }
.arrays :is(th, td):is(:nth-child(2), :nth-child(3), :nth-child(4), :nth-child(10)) {
  text-align: left; }
.arrays td:nth-child(1) { color: var(--soft); }
.arrays td:nth-child(10) { white-space: normal; min-width: 22em; overflow-wrap: anywhere; }
.wide { overflow-x: auto; margin-top: 10px; }
summary { cursor: pointer; font-weight: 600; }
figure { margin: 0; overflow-x: auto; }
figcaption { color: var(--soft); font-size: .85rem; }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
svg .tick { fill: var(--soft); font-size: 11px; }
svg .axis { fill: var(--soft); font-size: 12px; }
svg .mid { text-anchor: middle; }
svg .end { text-anchor: end; }
svg .frame { fill: none; stroke: var(--line); }
svg .forward { fill: none; stroke: var(--line); }
svg .backward { fill: var(--tint); stroke: var(--line); }
svg .grid { stroke: var(--line); stroke-width: 1; opacity: .7; fill: none; }
svg .tickline { stroke: var(--line); stroke-width: 1; stroke-dasharray: 2 3; }
svg .allowed { fill: var(--band); stroke: var(--good); stroke-width: .8; }
svg .expected { fill: none; stroke: var(--good); stroke-width: 1.4; stroke-dasharray: 5 4; }
svg .error { fill: none; stroke: var(--blue); stroke-width: 1.3; }
svg .same { fill: var(--blue); }
svg .other { fill: var(--bad); }
svg path.first { stroke: var(--bad); stroke-width: 1.4; stroke-dasharray: 4 3; }
svg circle.first { fill: none; stroke: var(--bad); stroke-width: 2; }
svg text.first { fill: var(--bad); font-weight: 600; }
.legend i { display: inline-block; width: 22px; height: 10px; margin-right: 6px; }
.legend .error { height: 0; border-top: 2px solid var(--blue); vertical-align: middle; }
.legend .expected { height: 0; border-top: 2px dashed var(--good); vertical-align: middle; }
.legend .allowed { background: var(--band); border: 1px solid var(--good); }
.beside { display: flex; flex-wrap: wrap; gap: 12px 28px; }
.beside > div { flex: 1 1 300px; }
svg .hn { fill: var(--card); }
svg .hx { fill: var(--odd); }
"""
    + "".join(
        f"svg .h{i} {{ fill: var(--h{i}); shape-rendering: crispEdges; }}\n" for i in range(10)
    )
    + """@media print {
  body { background: none; font-size: 11pt; }
  main { max-width: none; padding: 0; }
  section { break-inside: avoid; }
  section:has(.all) { break-inside: auto; }
  svg, h1 span { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
)
