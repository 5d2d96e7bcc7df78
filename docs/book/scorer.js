// How the search orders what it finds: chapters first, then tutorials, the pages of the API last.
var Scorer = {
  score: ([page, , , , score]) => {
    if (/^docs\/book\/\d/.test(page)) return score + 12;
    if (page.startsWith("tutorials/")) return score + 4;
    return page.startsWith("docs/reference/api") ? score - 12 : score;
  },
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
