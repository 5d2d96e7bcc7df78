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
