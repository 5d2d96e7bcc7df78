// The order of what a search finds: among equal matches chapters come first, then tutorials, then reference.
const FIRST = [["docs/book/0", 4], ["tutorials/", 3], ["docs/reference/api", 0], ["docs/reference/", 2]];
var Scorer = {
  score: ([page, , , , score]) => score + (FIRST.find(([start]) => page.startsWith(start))?.[1] ?? 0),
  objNameMatch: 4,
  objPartialMatch: 2,
  objPrio: { 0: 2, 1: 0, 2: -2 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

// Chinese has no spaces: a query is cut into the longest words that the index knows.
var splitQuery = (query) => query.split(/[^\p{Letter}\p{Number}_]+/gu).filter(Boolean).flatMap(cutChinese);

function cutChinese(text) {
  if (!/\p{Script=Han}/u.test(text)) return [text];
  const known = (word) => word in Search._index.terms || word in Search._index.titleterms;
  const words = [];
  for (let start = 0; start < text.length; ) {
    let end = Math.min(text.length, start + 8);
    while (end > start + 1 && !known(text.slice(start, end))) end--;
    if (end > start + 1 || known(text[start])) words.push(text.slice(start, end));
    start = end;
  }
  return words.length ? words : [text];
}
