-- Numbers that ProvSQL's own regression tests expect (github.com/PierreSenellart/provsql, MIT,
-- commit 49fca27c; the file under test/sql and test/expected is named in each case). A tuple that
-- is present with probability p there is a row predicted as 1 with probability p here.

-- setup
CREATE TABLE personnel AS SELECT * FROM (VALUES
  (1, 'John', 'New York', 'unclassified'), (2, 'Paul', 'New York', 'restricted'),
  (3, 'Dave', 'Paris', 'confidential'), (4, 'Ellen', 'Berlin', 'secret'),
  (5, 'Magdalen', 'Paris', 'top_secret'), (6, 'Nancy', 'Paris', 'restricted'),
  (7, 'Susan', 'Berlin', 'secret')) v(x, name, city, classification);
-- predict of personnel: 0, 1
--   0.9 0.1
--   0.8 0.2
--   0.7 0.3
--   0.6 0.4
--   0.5 0.5
--   0.4 0.6
--   0.3 0.7

-- case: expected: COUNT and SUM of every city
-- why: sums of probabilities
SELECT city, count(*) AS c1, count(x) AS c2, sum(x) AS s FROM personnel
WHERE predict(x) = 1 GROUP BY city ORDER BY city;
-- | city     | total c1 | total c2 | total s | _exists |
-- | Berlin   | ~1.10    | ~1.10    | ~6.50   | ~0.82   |
-- | New York | ~0.30    | ~0.30    | ~0.50   | ~0.28   |
-- | Paris    | ~1.40    | ~1.40    | ~7.00   | ~0.86   |

-- case: expected: the same given that the city has somebody
-- why: 0.30 / 0.28 and 0.50 / 0.28 for New York; HAVING conditions on the row
SELECT city, count(*) AS c1, count(x) AS c2, sum(x) AS s FROM personnel
WHERE predict(x) = 1 GROUP BY city HAVING count(*) >= 1 ORDER BY city;
-- | city     | given c1 | given c2 | given s | _exists |
-- | Berlin   | ~1.34    | ~1.34    | ~7.93   | ~0.82   |
-- | New York | ~1.07    | ~1.07    | ~1.79   | ~0.28   |
-- | Paris    | ~1.63    | ~1.63    | ~8.14   | ~0.86   |

-- case: expected: MIN and MAX in New York, which nobody is predicted to be in
-- why: (0.1 * 1 + 0.9 * 0.2 * 2) / 0.28 and (0.2 * 2 + 0.8 * 0.1 * 1) / 0.28
SELECT min(x) AS low, max(x) AS high FROM personnel WHERE predict(x) = 1 AND city = 'New York';
-- | given low | given high | _exists |
-- | ~1.64     | ~1.71      | 1       |

-- case: expected: MIN and MAX of every city
-- why: each id weighs the probability that it is in and nobody better is
SELECT city, min(x) AS low, max(x) AS high FROM personnel
WHERE predict(x) = 1 GROUP BY city ORDER BY city;
-- | city     | given low | given high | _exists |
-- | Berlin   | ~5.54     | ~6.56      | ~0.82   |
-- | New York | ~1.64     | ~1.71      | ~0.28   |
-- | Paris    | ~4.55     | ~5.56      | ~0.86   |

-- case: expected: AVG given that anybody is in
-- why: E[sum / count | count > 0], not 28 * E[sum] / E[count] = 5.0
SELECT avg(x) AS a FROM personnel WHERE predict(x) = 1;
-- | given a   | _exists |
-- | ~5.109393 | 1       |

-- case: probability_having: exactly one
-- why: one in and the other out
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING count(*) = 1;
-- | city     | _exists |
-- | Berlin   | ~0.54   |
-- | New York | ~0.26   |
-- | Paris    | ~0.41   |

-- case: probability_having: at least two
-- why: 0.4 * 0.7 in Berlin
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING count(*) >= 2;
-- | city     | _exists |
-- | Berlin   | ~0.28   |
-- | New York | ~0.02   |
-- | Paris    | ~0.45   |

-- case: probability_having: at least three
-- why: only Paris has three
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING count(*) >= 3;
-- | city  | _exists |
-- | Paris | ~0.09   |

-- case: probability_having_avg_min_max: AVG < 4
-- why: in Paris Dave alone
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING avg(x) < 4;
-- | city     | _exists |
-- | New York | ~0.28   |
-- | Paris    | ~0.06   |

-- case: probability_having_avg_min_max: AVG = 4
-- why: Ellen alone; Dave and Magdalen without Nancy
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING avg(x) = 4;
-- | city   | _exists |
-- | Berlin | ~0.12   |
-- | Paris  | ~0.06   |

-- case: probability_having_avg_min_max: AVG > 4
-- why: the remaining worlds
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING avg(x) > 4;
-- | city   | _exists |
-- | Berlin | ~0.70   |
-- | Paris  | ~0.74   |

-- case: probability_having_avg_min_max: AVG <> 4
-- why: an absent group is not a group whose average differs
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING avg(x) <> 4;
-- | city     | _exists |
-- | Berlin   | ~0.70   |
-- | New York | ~0.28   |
-- | Paris    | ~0.80   |

-- case: probability_having_avg_min_max: MAX < 4
-- why: nobody above, somebody below
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING max(x) < 4;
-- | city     | _exists |
-- | New York | ~0.28   |
-- | Paris    | ~0.06   |

-- case: probability_having_avg_min_max: MIN < 4
-- why: somebody below
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING min(x) < 4;
-- | city     | _exists |
-- | New York | ~0.28   |
-- | Paris    | ~0.30   |

-- case: probability_having_avg_min_max: MAX >= 4
-- why: somebody above
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING max(x) >= 4;
-- | city   | _exists |
-- | Berlin | ~0.82   |
-- | Paris  | ~0.80   |

-- case: probability_having_avg_min_max: MIN >= 4
-- why: nobody below, somebody above
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING min(x) >= 4;
-- | city   | _exists |
-- | Berlin | ~0.82   |
-- | Paris  | ~0.56   |

-- case: count_cmp_optimisation: COUNT <= 2
-- why: at least one and not three
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING count(*) <= 2;
-- | city     | _exists |
-- | Berlin   | ~0.8200 |
-- | New York | ~0.2800 |
-- | Paris    | ~0.7700 |

-- case: count_cmp_optimisation: COUNT <> 2
-- why: one or three
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING count(*) <> 2;
-- | city     | _exists |
-- | Berlin   | ~0.5400 |
-- | New York | ~0.2600 |
-- | Paris    | ~0.5000 |

-- case: min_max_cmp_optimisation: MAX = 4
-- why: Ellen without Susan
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING max(x) = 4;
-- | city   | _exists |
-- | Berlin | ~0.1200 |

-- case: min_max_cmp_optimisation: MAX <> 4
-- why: there, with another maximum
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING max(x) <> 4;
-- | city     | _exists |
-- | Berlin   | ~0.7000 |
-- | New York | ~0.2800 |
-- | Paris    | ~0.8600 |

-- case: min_max_cmp_optimisation: MIN > 4
-- why: Susan without Ellen; Paris without Dave
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING min(x) > 4;
-- | city   | _exists |
-- | Berlin | ~0.4200 |
-- | Paris  | ~0.5600 |

-- case: sum_cmp_optimisation: SUM >= 8
-- why: 0.4 * 0.7 in Berlin
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING sum(x) >= 8;
-- | city   | _exists |
-- | Berlin | ~0.2800 |
-- | Paris  | ~0.4500 |

-- case: sum_cmp_optimisation: SUM > 8
-- why: Dave and Magdalen make exactly 8
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING sum(x) > 8;
-- | city   | _exists |
-- | Berlin | ~0.2800 |
-- | Paris  | ~0.3900 |

-- case: sum_cmp_optimisation: SUM = 11
-- why: Ellen and Susan; Magdalen and Nancy without Dave
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING sum(x) = 11;
-- | city   | _exists |
-- | Berlin | ~0.2800 |
-- | Paris  | ~0.2100 |

-- case: sum_cmp_optimisation: SUM <> 11
-- why: there, with another sum
SELECT city FROM personnel WHERE predict(x) = 1 GROUP BY city HAVING sum(x) <> 11;
-- | city     | _exists |
-- | Berlin   | ~0.5400 |
-- | New York | ~0.2800 |
-- | Paris    | ~0.6500 |

-- setup
CREATE TABLE weather (x INT, p VARCHAR);
INSERT INTO weather VALUES (1, 'one day');
-- sky of weather: 'rain wet', 'rain dry', 'no rain wet', 'no rain dry'
--   0.35 0.05 0.1 0.5

-- case: repair_key: wet or dry ground; one block of alternatives is one prediction
-- why: 0.35 + 0.1 and 0.05 + 0.5
SELECT right(sky(x), 3) AS ground, count(*) AS n FROM weather GROUP BY ground;
-- | ground | total n | _exists |
-- | wet    | ~0.450  | ~0.450  |
-- | dry    | ~0.550  | ~0.550  |

-- setup
CREATE TABLE z AS SELECT 1 AS x, 'd' AS d;
-- predict of z: 0, 10
--   0.5 0.5

-- case: having_bid: SUM < 5 of a block that is never empty
-- why: the sum is 0 or 10
SELECT d FROM z GROUP BY d HAVING sum(predict(x)) < 5;
-- | d | _exists |
-- | d | ~0.5000 |

-- case: having_bid: SUM = 0
-- why: 0 is a value, not absence
SELECT d FROM z GROUP BY d HAVING sum(predict(x)) = 0;
-- | d | _exists |
-- | d | ~0.5000 |

-- case: having_bid: AVG < 5
-- why: the average of one value
SELECT d FROM z GROUP BY d HAVING avg(predict(x)) < 5;
-- | d | _exists |
-- | d | ~0.5000 |

-- case: having_bid: COUNT < 2
-- why: always one row
SELECT d FROM z GROUP BY d HAVING count(predict(x)) < 2;
-- | d | _exists |
-- | d | ~1.0000 |

-- case: having_bid: MAX = 0
-- why: the other value is 10
SELECT d FROM z WHERE predict(x) >= 0 GROUP BY d HAVING max(predict(x)) = 0;
-- | d | _exists |
-- | d | ~0.5000 |

-- setup
CREATE TABLE n AS SELECT 1 AS x, 'e' AS e;
-- predict of n: 0, 10, -1
--   0.3 0.3 0.4

-- case: having_bid: the empty world is no group, though its sum is 0
-- why: -1 stands for absence
SELECT e FROM n WHERE predict(x) <> -1 GROUP BY e HAVING sum(predict(x)) < 5;
-- | e | _exists |
-- | e | ~0.3000 |

-- case: having_bid: COUNT >= 1
-- why: 0.3 + 0.3
SELECT e FROM n WHERE predict(x) <> -1 GROUP BY e HAVING count(*) >= 1;
-- | e | _exists |
-- | e | ~0.6000 |

-- setup
CREATE TABLE xy AS SELECT * FROM (VALUES (1, 'X', 10), (2, 'Y', 1)) v(x, block, scale);
-- predict of xy: 0, 1
--   0.5 0.5
--   0.5 0.5

-- case: having_bid: two blocks, SUM < 11
-- why: not both at their upper value
SELECT 'c' AS c FROM xy HAVING sum(scale * predict(x)) < 11;
-- | c | _exists |
-- | c | ~0.7500 |

-- case: having_bid: two blocks, SUM <= 1
-- why: X is 0
SELECT 'c' AS c FROM xy HAVING sum(scale * predict(x)) <= 1;
-- | c | _exists |
-- | c | ~0.5000 |

-- case: having_bid: two blocks, MIN >= 1
-- why: both at their upper value
SELECT 'c' AS c FROM xy HAVING min(scale * predict(x)) >= 1;
-- | c | _exists |
-- | c | ~0.2500 |

-- setup
CREATE TABLE four AS SELECT * FROM (VALUES (1, 10), (2, 20), (3, 30), (4, 40)) v(x, a);
-- predict of four: 0, 1
--   0.5 0.5
--   0.5 0.5
--   0.5 0.5
--   0.5 0.5

-- case: scalar_empty_having: without GROUP BY the empty world is a row, COUNT = 0
-- why: 1 / 16
SELECT 'c' AS c FROM four WHERE predict(x) = 1 HAVING count(*) = 0;
-- | c | _exists |
-- | c | ~0.0625 |

-- case: scalar_empty_having: COUNT < 2
-- why: 1 / 16 + 4 / 16
SELECT 'c' AS c FROM four WHERE predict(x) = 1 HAVING count(*) < 2;
-- | c | _exists |
-- | c | ~0.3125 |

-- case: scalar_empty_having: COUNT >= 1
-- why: 15 / 16
SELECT 'c' AS c FROM four WHERE predict(x) = 1 HAVING count(*) >= 1;
-- | c | _exists |
-- | c | ~0.9375 |

-- case: scalar_empty_having: COUNT = 2
-- why: 6 / 16
SELECT 'c' AS c FROM four WHERE predict(x) = 1 HAVING count(*) = 2;
-- | c | _exists |
-- | c | ~0.3750 |

-- case: scalar_empty_having: COUNT >= 0 is always true
-- why: the empty world included
SELECT 'c' AS c FROM four WHERE predict(x) = 1 HAVING count(*) >= 0;
-- | c | _exists |
-- | c | ~1.0000 |

-- case: scalar_empty_having: SUM IS NULL
-- why: nobody to sum
SELECT 'c' AS c FROM four WHERE predict(x) = 1 HAVING sum(a) IS NULL;
-- | c | _exists |
-- | c | ~0.0625 |

-- case: scalar_empty_having: MAX IS NOT NULL
-- why: somebody
SELECT 'c' AS c FROM four WHERE predict(x) = 1 HAVING max(a) IS NOT NULL;
-- | c | _exists |
-- | c | ~0.9375 |

-- setup
CREATE TABLE nulls AS SELECT * FROM (VALUES
  (1, 1, 10), (2, 1, NULL), (3, 2, NULL), (4, 2, NULL), (5, 3, 30)) v(x, g, a);
-- predict of nulls: 0, 1
--   0.5 0.5
--   0.5 0.5
--   0.5 0.5
--   0.5 0.5
--   0.5 0.5

-- case: scalar_empty_having: a group whose present values are all NULL
-- why: 0.5 * 0.5, and 1 - 0.25 where all are NULL
SELECT g FROM nulls WHERE predict(x) = 1 GROUP BY g HAVING sum(a) IS NULL;
-- | g | _exists |
-- | 1 | ~0.2500 |
-- | 2 | ~0.7500 |

-- case: scalar_empty_having: SUM IS NOT NULL
-- why: the value is there
SELECT g FROM nulls WHERE predict(x) = 1 GROUP BY g HAVING sum(a) IS NOT NULL;
-- | g | _exists |
-- | 1 | ~0.5000 |
-- | 3 | ~0.5000 |

-- setup
CREATE TABLE l AS SELECT * FROM (VALUES (1), (2)) v(k);
CREATE TABLE r AS SELECT * FROM (VALUES (1, 1, 10), (2, 1, 20), (3, 3, 30)) v(x, k, v);
-- predict of r: 0, 1
--   0.5 0.5
--   0.5 0.5
--   0.5 0.5

-- case: outer_join: LEFT JOIN keeps every left group
-- why: the left rows are certain
SELECT l.k AS k, count(r.k) AS n FROM l LEFT JOIN r ON r.k = l.k AND predict(r.x) = 1 GROUP BY l.k;
-- | k | total n | _exists |
-- | 1 | 1       | ~1.0000 |
-- | 2 | 0       | ~1.0000 |

-- case: outer_join: LEFT JOIN, no match
-- why: neither match, 0.25; never a match
SELECT l.k AS k FROM l LEFT JOIN r ON r.k = l.k AND predict(r.x) = 1 GROUP BY l.k
HAVING count(r.k) = 0;
-- | k | _exists |
-- | 1 | ~0.2500 |
-- | 2 | ~1.0000 |

-- case: outer_join: LEFT JOIN, both matches
-- why: 0.5 * 0.5
SELECT l.k AS k FROM l LEFT JOIN r ON r.k = l.k AND predict(r.x) = 1 GROUP BY l.k
HAVING count(r.k) >= 2;
-- | k | _exists |
-- | 1 | ~0.2500 |

-- case: outer_join: RIGHT JOIN
-- why: one of two matches; the unmatched right row
SELECT s.k AS k FROM l RIGHT JOIN (SELECT r.k AS k FROM r WHERE predict(r.x) = 1) s ON s.k = l.k
GROUP BY s.k;
-- | k | _exists |
-- | 1 | ~0.7500 |
-- | 3 | ~0.5000 |

-- case: outer_join: FULL JOIN
-- why: left rows are certain, the right one is not
SELECT coalesce(l.k, s.k) AS k FROM l
FULL JOIN (SELECT r.k AS k FROM r WHERE predict(r.x) = 1) s ON s.k = l.k GROUP BY coalesce(l.k, s.k);
-- | k | _exists |
-- | 1 | ~1.0000 |
-- | 2 | ~1.0000 |
-- | 3 | ~0.5000 |

-- setup
CREATE TABLE gr AS SELECT * FROM (VALUES (1, 1), (2, NULL)) v(x, a);
CREATE TABLE gs AS SELECT 3 AS x, NULL::INT AS a;
-- predict of gr: 0, 1
--   0.5 0.5
--   0.5 0.5
-- predict of gs: 0, 1
--   0.5 0.5

-- case: null_semantics: NOT IN a list with NULL removes every row
-- why: the row is in and the NULL is not, 0.5 * 0.5
SELECT gr.a AS a FROM gr WHERE predict(gr.x) = 1
AND gr.a NOT IN (SELECT gs.a FROM gs WHERE predict(gs.x) = 1);
-- | a    | _exists |
-- | 1    | ~0.2500 |
-- | NULL | ~0.2500 |

-- case: null_semantics: NOT EXISTS does not see NULL
-- why: NULL = a is never true
SELECT gr.a AS a FROM gr WHERE predict(gr.x) = 1
AND NOT EXISTS (SELECT 1 FROM gs WHERE predict(gs.x) = 1 AND gs.a = gr.a);
-- | a    | _exists |
-- | 1    | ~0.5000 |
-- | NULL | ~0.5000 |

-- case: null_semantics: EXCEPT takes NULLs for equal
-- why: 0.5; 0.5 * 0.5
SELECT gr.a AS a FROM gr WHERE predict(gr.x) = 1
EXCEPT SELECT gs.a FROM gs WHERE predict(gs.x) = 1;
-- | a    | _exists |
-- | 1    | ~0.5000 |
-- | NULL | ~0.2500 |

-- setup
CREATE TABLE ea AS SELECT 1 AS x, 1 AS a;
CREATE TABLE eb AS SELECT * FROM (VALUES (2, 1), (3, 1)) v(x, a);
-- predict of ea: 0, 1
--   0.5 0.5
-- predict of eb: 0, 1
--   0.5 0.5
--   0.5 0.5

-- case: except: one row against two equal ones
-- why: 0.5 * 0.5 * 0.5
SELECT ea.a AS a FROM ea WHERE predict(ea.x) = 1
EXCEPT SELECT eb.a FROM eb WHERE predict(eb.x) = 1;
-- | a | _exists |
-- | 1 | ~0.1250 |

-- setup
CREATE TABLE av AS SELECT * FROM (VALUES (1, 1, 10), (2, 1, 100)) v(x, g, a);
-- predict of av: 0, 1
--   0.5 0.5
--   0.5 0.5

-- case: agg_avg_moment: the average of the rows that are there
-- why: (10 + 100 + 55) / 3
SELECT g, avg(a) AS m FROM av WHERE predict(x) = 1 GROUP BY g;
-- | g | given m  | _exists |
-- | 1 | ~55.0000 | 0.75    |

-- setup
CREATE TABLE cd AS SELECT * FROM (VALUES
  (1, 1, 10), (2, 1, 10), (3, 1, 20), (4, 1, 30), (5, 2, 40), (6, 2, 50)) v(x, g, y);
-- predict of cd: 0, 1
--   0.5 0.5
--   0.5 0.5
--   0.5 0.5
--   0.5 0.5
--   0.5 0.5
--   0.5 0.5

-- case: having_count_distinct: at least two values
-- why: presence of the values is 0.75, 0.5, 0.5
SELECT g FROM cd WHERE predict(x) = 1 GROUP BY g HAVING count(DISTINCT y) >= 2;
-- | g | _exists |
-- | 1 | ~0.6250 |
-- | 2 | ~0.2500 |

-- case: having_count_distinct: three values
-- why: 0.75 * 0.5 * 0.5
SELECT g FROM cd WHERE predict(x) = 1 GROUP BY g HAVING count(DISTINCT y) >= 3;
-- | g | _exists |
-- | 1 | ~0.1875 |

-- case: having_count_distinct: exactly two
-- why: 0.625 - 0.1875
SELECT g FROM cd WHERE predict(x) = 1 GROUP BY g HAVING count(DISTINCT y) = 2;
-- | g | _exists |
-- | 1 | ~0.4375 |
-- | 2 | ~0.2500 |

-- case: having_count_distinct: at most one
-- why: there with one value
SELECT g FROM cd WHERE predict(x) = 1 GROUP BY g HAVING count(DISTINCT y) <= 1;
-- | g | _exists |
-- | 1 | ~0.3125 |
-- | 2 | ~0.5000 |
