"""Charts for pages, drawn as SVG with letters that stay letters, each with words for who cannot see it.

Colours are told apart by colour-blind readers and never carry a meaning alone. Every function takes plain numbers.
"""

from delineate.reports.charts.boxes import box_plot
from delineate.reports.charts.calibration import Reliability, reliability_curve
from delineate.reports.charts.confusion import confusion_map
from delineate.reports.charts.distributions import Strip, duration, histogram_strips, time_bars
from delineate.reports.charts.forests import ForestRow, forest_plot
from delineate.reports.charts.learning import learning_chart
from delineate.reports.charts.pairs import Point, bland_altman, scatter
from delineate.reports.drawing import Chart

__all__ = [
    "Chart",
    "ForestRow",
    "Point",
    "Reliability",
    "Strip",
    "bland_altman",
    "box_plot",
    "confusion_map",
    "duration",
    "forest_plot",
    "histogram_strips",
    "learning_chart",
    "reliability_curve",
    "scatter",
    "time_bars",
]
