// How the search orders what it finds: by Sphinx's scores, but the pages of the API come last.
var Scorer = {
  score: ([page, , , , score]) => (page.startsWith("docs/reference/api") ? score - 12 : score),
  // the rest is Sphinx's own
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
