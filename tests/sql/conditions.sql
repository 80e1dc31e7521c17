-- Conditions on a prediction: the weight of a row is the probability that the condition IS TRUE.

-- setup
CREATE TABLE t AS SELECT * FROM (VALUES
  (1, 'a', 5), (2, 'b', NULL), (3, NULL, 1)) v(x, g, k);
-- predict of t: 0, 1, 2
--   0.5 0.3 0.2
--   0.1 0.6 0.3
--   0.2 0.2 0.6
-- mood of t: 'calm', 'cross'
--   0.9 0.1
--   0.4 0.6
--   0.5 0.5

-- case: equality
-- why: 0.3 + 0.6 + 0.2
SELECT count(*) AS n FROM t WHERE predict(x) = 1;
-- | total n         | _exists |
-- | 0.3 + 0.6 + 0.2 | 1       |

-- case: a class or another one: the alternatives of one prediction add up
-- why: not 1 - (1 - p)(1 - q), as one prediction cannot be both
SELECT count(*) AS n FROM t WHERE predict(x) = 0 OR predict(x) = 1;
-- | total n         | _exists |
-- | 0.8 + 0.7 + 0.4 | 1       |

-- case: IN is the same
-- why: see above
SELECT count(*) AS n FROM t WHERE predict(x) IN (0, 1);
-- | total n         | _exists |
-- | 0.8 + 0.7 + 0.4 | 1       |

-- case: NOT IN a list with NULL is never true
-- why: three-valued logic
SELECT count(*) AS n FROM t WHERE predict(x) NOT IN (1, NULL);
-- | total n | _exists |
-- | 0       | 1       |

-- case: IN a list with NULL
-- why: NULL adds nothing
SELECT count(*) AS n FROM t WHERE predict(x) IN (1, NULL);
-- | total n         | _exists |
-- | 0.3 + 0.6 + 0.2 | 1       |

-- case: NOT of a comparison with a NULL column
-- why: the second row's k is NULL, its condition unknown either way
SELECT count(*) AS n FROM t WHERE NOT (predict(x) < k);
-- | total n       | _exists |
-- | 0 + 0.2 + 0.6 | 1       |

-- case: IS DISTINCT FROM a NULL column
-- why: always true in the second row; 5 is no class; the third needs another class than 1
SELECT count(*) AS n FROM t WHERE predict(x) IS DISTINCT FROM k;
-- | total n     | _exists |
-- | 1 + 1 + 0.8 | 1       |

-- case: BETWEEN, with a column as one end
-- why: the second row's end is NULL
SELECT count(*) AS n FROM t WHERE predict(x) BETWEEN 1 AND k;
-- | total n       | _exists |
-- | 0.5 + 0 + 0.2 | 1       |

-- case: LIKE on words
-- why: classes that begin with cr
SELECT count(*) AS n FROM t WHERE mood(x) LIKE 'cr%';
-- | total n         | _exists |
-- | 0.1 + 0.6 + 0.5 | 1       |

-- case: CASE chooses the condition by a column
-- why: g = 'a' in the first row only; a NULL g goes to ELSE
SELECT count(*) AS n FROM t
WHERE CASE WHEN g = 'a' THEN predict(x) = 2 ELSE predict(x) > 0 END;
-- | total n         | _exists |
-- | 0.2 + 0.9 + 0.8 | 1       |

-- case: arithmetic and casts
-- why: only class 2 makes 2.0
SELECT count(*) AS n FROM t WHERE predict(x)::DOUBLE * 2 - 2 >= 2.0;
-- | total n         | _exists |
-- | 0.2 + 0.3 + 0.6 | 1       |

-- case: two models: their predictions are independent
-- why: products within each row
SELECT count(*) AS n FROM t WHERE predict(x) = 1 AND mood(x) = 'cross';
-- | total n                           | _exists |
-- | 0.3 * 0.1 + 0.6 * 0.6 + 0.2 * 0.5 | 1       |

-- case: two models, one or the other
-- why: p + q - pq
SELECT count(*) AS n FROM t WHERE (predict(x) = 1 OR mood(x) = 'cross') AND g = 'b';
-- | total n               | _exists |
-- | 0.6 + 0.6 - 0.6 * 0.6 | 1       |

-- case: rows of the table are the answer
-- why: each row is there with its own weight; the second never, as NULL > 0 is not true
SELECT x FROM t WHERE predict(x) = 1 AND k > 0;
-- | x | _exists |
-- | 1 | 0.3     |
-- | 3 | 0.2     |

-- case: the prediction itself is a column
-- why: the expected class given that the row is there
SELECT x, predict(x) AS c FROM t WHERE predict(x) > 0 AND g = 'a';
-- | x | given c           | _exists |
-- | 1 | (0.3 + 0.4) / 0.5 | 0.5     |

-- case: different predictions
-- why: one row for every class that some row has
SELECT DISTINCT predict(x) AS c FROM t WHERE k > 0;
-- | c | _exists       |
-- | 0 | 1 - 0.5 * 0.8 |
-- | 1 | 1 - 0.7 * 0.8 |
-- | 2 | 1 - 0.8 * 0.4 |

-- case: a contradiction and a tautology over one prediction
-- why: 0 and 1, whatever the model says
SELECT count(*) FILTER (WHERE predict(x) = 1 AND predict(x) = 2) AS none,
       count(*) FILTER (WHERE predict(x) = 1 OR NOT predict(x) = 1) AS every FROM t;
-- | total none | total every | _exists |
-- | 0          | 3           | 1       |
