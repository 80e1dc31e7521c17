"""The whole loop on bundled real data: plant label errors, complain in SQL, find them, prove it.

scikit-learn's digits (1 797 scans of 8 x 8 pixels) are split into training rows and a DuckDB table.
Half of the training 1s are labelled 7. A query then counts too few 1s and too many 7s; somebody has
counted both by hand and complains; the ranking finds the wrong labels; retraining with the repaired
ones heals the counts. The planted errors are used to judge the ranking, never to make it.
"""

from rainpp.demo.run import run_demo
from rainpp.demo.stream import StreamSummary, run_stream_demo
from rainpp.demo.summary import DemoSummary, DigitCount

__all__ = ["DemoSummary", "DigitCount", "StreamSummary", "run_demo", "run_stream_demo"]
