-- Joins on predictions, and joins to rows that may not be there.

-- setup
CREATE TABLE l AS SELECT * FROM (VALUES (1, 'a'), (2, 'b')) v(x, g);
CREATE TABLE r AS SELECT * FROM (VALUES (3, 'a', 5), (4, NULL, 7)) v(x, g, cost);
-- predict of l: 0, 1
--   0.5 0.5
--   0.2 0.8
-- predict of r: 0, 1
--   0.6 0.4
--   0.3 0.7

-- case: two predictions agree
-- why: P P' + Q Q' for each of four pairs
SELECT count(*) AS n FROM l JOIN r ON predict(l.x) = predict(r.x);
-- | total n                                                                         | _exists |
-- | (0.3 + 0.2) + (0.15 + 0.35) + (0.2*0.6 + 0.8*0.4) + (0.2*0.3 + 0.8*0.7)         | 1       |

-- case: a table with itself: every row agrees with itself
-- why: 2 certain pairs and the pair of different rows twice
SELECT count(*) AS n FROM l p JOIN l q ON predict(p.x) = predict(q.x);
-- | total n                     | _exists |
-- | 2 + 2 * (0.5*0.2 + 0.5*0.8) | 1       |

-- case: a prediction as a join key
-- why: class 0 has no partner
SELECT r.cost AS cost FROM l JOIN r ON predict(l.x) * 5 = r.cost WHERE l.g = 'b';
-- | cost | _exists |
-- | 5    | 0.8     |

-- case: LEFT JOIN pads when no row matches
-- why: matched with probability 0.4, padded otherwise; NULL keys never match
SELECT l.g AS g, r.cost AS cost FROM l LEFT JOIN r ON l.g = r.g AND predict(r.x) = 1;
-- | g | cost | _exists |
-- | a | 5    | 0.4     |
-- | a | NULL | 0.6     |
-- | b | NULL | 1       |

-- case: LEFT JOIN on equal predictions
-- why: the row is counted once when padded: 1 + P(both match) for each left row
SELECT count(*) AS n FROM l LEFT JOIN r ON predict(l.x) = predict(r.x) WHERE l.g = 'a';
-- | total n                           | _exists |
-- | 1 + 0.5 * 0.6*0.3 + 0.5 * 0.4*0.7 | 1       |

-- case: a test on the padded side turns it into an inner join
-- why: NULL = 1 is not true
SELECT count(*) AS n FROM l LEFT JOIN r ON l.g = r.g WHERE predict(r.x) = 1;
-- | total n | _exists |
-- | 0.4     | 1       |

-- case: the rows without a partner
-- why: the prediction of a padded row is NULL
SELECT l.g AS g FROM l LEFT JOIN r ON l.g = r.g AND predict(l.x) = 1 WHERE predict(r.x) IS NULL;
-- | g | _exists |
-- | a | 0.5     |
-- | b | 1       |

-- case: FULL JOIN
-- why: either matched or both sides padded
SELECT l.g AS g, r.cost AS cost FROM l FULL JOIN r ON l.g = r.g AND predict(l.x) = predict(r.x);
-- | g    | cost | _exists               |
-- | a    | 5    | 0.5*0.6 + 0.5*0.4     |
-- | a    | NULL | 1 - 0.5*0.6 - 0.5*0.4 |
-- | b    | NULL | 1                     |
-- | NULL | 5    | 1 - 0.5*0.6 - 0.5*0.4 |
-- | NULL | 7    | 1                     |

-- case: EXISTS, conditioned on the class of the outer row first
-- why: not 1 - (1 - 0.5)(1 - 0.5): both partners share the outer prediction
SELECT l.g AS g FROM l WHERE EXISTS (SELECT 1 FROM r WHERE predict(r.x) = predict(l.x));
-- | g | _exists                               |
-- | a | 0.5*(1 - 0.4*0.7) + 0.5*(1 - 0.6*0.3) |
-- | b | 0.2*(1 - 0.4*0.7) + 0.8*(1 - 0.6*0.3) |

-- case: NOT EXISTS
-- why: the complement
SELECT l.g AS g FROM l WHERE NOT EXISTS (SELECT 1 FROM r WHERE predict(r.x) = predict(l.x));
-- | g | _exists                   |
-- | a | 0.5*0.4*0.7 + 0.5*0.6*0.3 |
-- | b | 0.2*0.4*0.7 + 0.8*0.6*0.3 |

-- case: SEMI JOIN and ANTI JOIN say the same
-- why: see EXISTS
SELECT count(*) AS n FROM l SEMI JOIN r ON predict(r.x) = predict(l.x) WHERE l.g = 'a';
-- | total n                               | _exists |
-- | 0.5*(1 - 0.4*0.7) + 0.5*(1 - 0.6*0.3) | 1       |

-- case: NOT IN with a NULL among the candidates
-- why: the NULL row, if there, makes every answer unknown; 'a' also fails if its own row is there
SELECT l.g AS g FROM l WHERE l.g NOT IN (SELECT r.g FROM r WHERE predict(r.x) = 1);
-- | g | _exists   |
-- | a | 0.3 * 0.6 |
-- | b | 0.3       |

-- case: IN with a NULL among the candidates
-- why: NULL never makes it true
SELECT l.g AS g FROM l WHERE l.g IN (SELECT r.g FROM r WHERE predict(r.x) = 1);
-- | g | _exists |
-- | a | 0.4     |

-- setup
CREATE TABLE t AS SELECT * FROM (VALUES (1), (2), (3)) v(x);
-- predict of t: 0, 1, 2
--   0.5 0.25 0.25
--   0.2 0.2 0.6
--   0.1 0.8 0.1
-- label of t: 'u', 'v'
--   0.6 0.4
--   0.3 0.7
--   0.5 0.5

-- case: a row always has a partner in its own table, so a SUM over padded rows is NULL
-- why: every row agrees with itself, whatever is predicted
SELECT sum(x) AS s, count(x) AS n
FROM (SELECT label(p.x) AS k, q.x AS x FROM t p FULL JOIN t q ON predict(p.x) = predict(q.x)
      WHERE predict(q.x) = 0) w WHERE k IS NULL;
-- | total s | total n | _exists |
-- | 'nan'   | 0       | 1       |
