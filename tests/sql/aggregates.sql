-- Aggregates whose members, arguments or both are uncertain.

-- setup
CREATE TABLE t AS SELECT * FROM (VALUES
  (1, 'a', 4.0), (2, 'a', 2.0), (3, 'b', 8.0), (4, 'b', NULL)) v(x, g, price);
-- predict of t: 0, 1, 2
--   0.5 0.5 0.0
--   0.2 0.8 0.0
--   0.9 0.1 0.0
--   0.0 0.5 0.5

-- case: SUM and COUNT skip NULL
-- why: the fourth row has no price
SELECT sum(price) AS s, count(price) AS n, count(*) AS m FROM t WHERE predict(x) = 1;
-- | total s                 | total n         | total m               | _exists |
-- | 4*0.5 + 2*0.8 + 8*0.1   | 0.5 + 0.8 + 0.1 | 0.5 + 0.8 + 0.1 + 0.5 | 1       |

-- case: the sum of predictions
-- why: expected classes
SELECT sum(predict(x)) AS s FROM t WHERE g = 'b';
-- | total s   | _exists |
-- | 0.1 + 1.5 | 1       |

-- case: the average over certain rows is linear
-- why: a quarter of the expected classes
SELECT avg(predict(x)) AS a FROM t;
-- | given a                     | _exists |
-- | (0.5 + 0.8 + 0.1 + 1.5) / 4 | 1       |

-- case: the average over uncertain rows is no ratio of expectations
-- why: worlds 4, 2, (4+2)/2 of group a, divided by the chance of any of them
SELECT g, avg(price) AS a FROM t WHERE predict(x) = 1 AND g = 'a' GROUP BY g;
-- | g | given a                                         | _exists       |
-- | a | (0.5*0.2*4 + 0.5*0.8*2 + 0.5*0.8*3) / (1 - 0.1) | 1 - 0.5 * 0.2 |

-- case: the average of a group whose only row has no price
-- why: the group exists, its average is NULL unless the third row is there
SELECT g, avg(price) AS a, count(*) AS n FROM t WHERE predict(x) = 1 AND g = 'b' GROUP BY g;
-- | g | given a | total n   | _exists       |
-- | b | 8       | 0.1 + 0.5 | 1 - 0.9 * 0.5 |

-- case: the least and the greatest
-- why: 2 if the second row is in, else 4; 4 if the first is in, else 2
SELECT g, min(price) AS low, max(price) AS high FROM t
WHERE predict(x) = 1 AND g = 'a' GROUP BY g;
-- | g | given low                   | given high                  | _exists |
-- | a | (0.8*2 + 0.2*0.5*4) / 0.9   | (0.5*4 + 0.5*0.8*2) / 0.9   | 0.9     |

-- case: the greatest prediction
-- why: P(max <= c) is a product over rows
SELECT max(predict(x)) AS high FROM t WHERE g = 'a';
-- | given high      | _exists |
-- | 1 - 0.5 * 0.2   | 1       |

-- case: how many different values
-- why: 'a' unless both its rows are out, 'b' likewise
SELECT count(DISTINCT g) AS n FROM t WHERE predict(x) = 1;
-- | total n                   | _exists |
-- | (1 - 0.1) + (1 - 0.9*0.5) | 1       |

-- case: how many different predictions
-- why: the rows of a: both 0 or both 1 make one class, otherwise two
SELECT count(DISTINCT predict(x)) AS n FROM t WHERE g = 'a';
-- | total n                                   | _exists |
-- | 1 * (0.5*0.2 + 0.5*0.8) + 2 * (0.1 + 0.4) | 1       |

-- case: a ratio of aggregates is taken in every world
-- why: 0, 1 or 2 of the two rows of a; not a ratio of expectations, though the same here
SELECT sum(price) FILTER (WHERE predict(x) = 1) / count(*) AS r FROM t WHERE g = 'a';
-- | given r                             | _exists |
-- | (0.1*2 + 0.4*1 + 0.4*3) / (1 - 0.1) | 1       |

-- case: CASE inside an aggregate
-- why: 10 for class 1, the price otherwise
SELECT sum(CASE WHEN predict(x) = 1 THEN 10 ELSE price END) AS s FROM t WHERE g = 'a';
-- | total s                     | _exists |
-- | 5 + 0.5*4 + 8 + 0.2*2       | 1       |

-- case: linear combinations
-- why: expectations add
SELECT 100 * count(*) FILTER (WHERE predict(x) = 1) - count(*) / 2 AS r FROM t WHERE g = 'a';
-- | total r       | _exists |
-- | 100 * 1.3 - 1 | 1       |

-- case: groups by a prediction
-- why: one group for every class; class 0 needs one of three rows
SELECT predict(x) AS c, count(*) AS n FROM t GROUP BY predict(x);
-- | c | total n         | _exists                   |
-- | 0 | 0.5 + 0.2 + 0.9 | 1 - 0.5 * 0.8 * 0.1       |
-- | 1 | 1.3 + 0.1 + 0.5 | 1 - 0.5 * 0.2 * 0.9 * 0.5 |
-- | 2 | 0.5             | 0.5                       |

-- case: groups by an expression of a prediction
-- why: odd or even
SELECT predict(x) % 2 = 1 AS odd, count(*) AS n FROM t WHERE g = 'b' GROUP BY 1;
-- | odd   | total n   | _exists       |
-- | true  | 0.1 + 0.5 | 1 - 0.9 * 0.5 |
-- | false | 0.9 + 0.5 | 1 - 0.1 * 0.5 |

-- case: HAVING is one event with the existence of the group
-- why: both rows of a; only one row of b can be 1 and have a price, but two can be counted
SELECT g, count(*) AS n FROM t WHERE predict(x) = 1 GROUP BY g HAVING count(*) = 2;
-- | g | given n | _exists   |
-- | a | 2       | 0.5 * 0.8 |
-- | b | 2       | 0.1 * 0.5 |

-- case: HAVING that an absent group would satisfy
-- why: a group of no rows is no group
SELECT g FROM t WHERE predict(x) = 1 GROUP BY g HAVING count(*) < 2;
-- | g | _exists           |
-- | a | 0.5*0.2 + 0.5*0.8 |
-- | b | 0.1*0.5 + 0.9*0.5 |

-- case: ROLLUP adds a total
-- why: the total is there even over no rows
SELECT g, grouping(g) AS level, count(*) AS n FROM t WHERE predict(x) = 1 GROUP BY ROLLUP (g);
-- | g    | level | total n   | _exists       |
-- | a    | 0     | 1.3       | 0.9           |
-- | b    | 0     | 0.1 + 0.5 | 1 - 0.9 * 0.5 |
-- | NULL | 1     | 1.9       | 1             |
