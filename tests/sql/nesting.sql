-- Queries inside queries: set operations, CTEs, scalar subqueries, windows, LIMIT.

-- setup
CREATE TABLE t AS SELECT * FROM (VALUES (1, 'a', 4), (2, 'a', 2), (3, 'b', 1)) v(x, g, v);
-- predict of t: 0, 1
--   0.5 0.5
--   0.2 0.8
--   0.9 0.1

-- case: DISTINCT keeps one of equal rows
-- why: any of the rows of a
SELECT DISTINCT g FROM t WHERE predict(x) = 1;
-- | g | _exists |
-- | a | 0.9     |
-- | b | 0.1     |

-- case: UNION ALL of opposite conditions is the table
-- why: one of the two holds
SELECT count(*) AS n FROM (SELECT g FROM t WHERE predict(x) = 1 UNION ALL
                           SELECT g FROM t WHERE predict(x) = 0) u;
-- | total n | _exists |
-- | 3       | 1       |

-- case: UNION
-- why: b comes from its own row alone, either way
SELECT g FROM t WHERE predict(x) = 1 AND g = 'b' UNION SELECT g FROM t WHERE predict(x) = 0;
-- | g | _exists         |
-- | a | 1 - 0.5 * 0.8   |
-- | b | 1               |

-- case: INTERSECT of conditions that exclude one another row by row
-- why: the two rows of a must differ; b has one row
SELECT g FROM t WHERE predict(x) = 1 INTERSECT SELECT g FROM t WHERE predict(x) = 0;
-- | g | _exists           |
-- | a | 0.5*0.2 + 0.5*0.8 |

-- case: EXCEPT shares predictions with its other side
-- why: both rows of a are 1; b is 1
SELECT g FROM t WHERE predict(x) = 1 EXCEPT SELECT g FROM t WHERE predict(x) = 0;
-- | g | _exists   |
-- | a | 0.5 * 0.8 |
-- | b | 0.1       |

-- case: a CTE used twice is one set of rows
-- why: every pair of present rows, each row with itself included
WITH c AS (SELECT t.x AS y FROM t WHERE predict(t.x) = 1)
SELECT count(*) AS n FROM c p, c q;
-- | total n                                     | _exists |
-- | 1.4 + 2 * (0.5*0.8 + 0.5*0.1 + 0.8*0.1)     | 1       |

-- case: a filter on an aggregated derived table
-- why: the same as HAVING
SELECT s.g AS g, s.n AS n FROM (SELECT g, count(*) AS n FROM t WHERE predict(x) = 1 GROUP BY g) s
WHERE s.n >= 2;
-- | g | given n | _exists |
-- | a | 2       | 0.4     |

-- case: an aggregate of an aggregate
-- why: 2 if both rows of a are there, else 1 if any row is, nothing otherwise
SELECT max(s.n) AS m FROM (SELECT g, count(*) AS n FROM t WHERE predict(x) = 1 GROUP BY g) s;
-- | given m                                        | _exists |
-- | (2 * 0.4 + (1 - 0.4 - 0.1*0.9)) / (1 - 0.1*0.9) | 1       |

-- case: compared with a scalar subquery
-- why: more than the mean class: no row is 1 if all classes agree
SELECT x FROM t WHERE predict(x) > (SELECT avg(predict(t.x)) FROM t);
-- | x | _exists               |
-- | 1 | 0.5 * (1 - 0.8 * 0.1) |
-- | 2 | 0.8 * (1 - 0.5 * 0.1) |
-- | 3 | 0.1 * (1 - 0.5 * 0.8) |

-- case: a correlated scalar subquery
-- why: the number of rows of the same g that are 1
SELECT p.x AS y, (SELECT count(*) FROM t WHERE t.g = p.g AND predict(t.x) = 1) AS n FROM t p;
-- | y | given n | _exists |
-- | 1 | 1.3     | 1       |
-- | 2 | 1.3     | 1       |
-- | 3 | 0.1     | 1       |

-- case: a window over a certain partition
-- why: given that the row itself is there
SELECT x, sum(v) OVER (PARTITION BY g) AS s FROM t WHERE predict(x) = 1;
-- | x | given s     | _exists |
-- | 1 | 4 + 0.8 * 2 | 0.5     |
-- | 2 | 2 + 0.5 * 4 | 0.8     |
-- | 3 | 1           | 0.1     |

-- case: LIMIT keeps the first row that is there
-- why: nobody better is in
SELECT x FROM t WHERE predict(x) = 1 ORDER BY v DESC LIMIT 1;
-- | x | _exists         |
-- | 1 | 0.5             |
-- | 2 | 0.5 * 0.8       |
-- | 3 | 0.5 * 0.2 * 0.1 |

-- case: the group with the most rows
-- why: a wins with two rows, or with one if b has none; ties go to b
SELECT g, count(*) AS n FROM t WHERE predict(x) = 1 GROUP BY g ORDER BY n DESC, g DESC LIMIT 1;
-- | g | given n                                 | _exists         |
-- | a | (2 * 0.4 + 1 * 0.5*0.9) / (0.4 + 0.45)  | 0.4 + 0.5 * 0.9 |
-- | b | 1                                       | 0.1 * (1 - 0.4) |
