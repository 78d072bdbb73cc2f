"""Figures of tables drawn at random: no text is cut off or over another, and stars lie inside their axes."""

import dataclasses
import itertools
import xml.etree.ElementTree as ET

import pytest
from drawn_cells import COLUMNS, cells_of, results
from figure_texts import drawn_texts, faults, stars_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deepsad_pl.common.errors import DeepSADError
from deepsad_pl.common.figure_format import PAGE, FigureFormat
from deepsad_pl.report.figures import auroc_figure
from deepsad_pl.report.known_novel import KnownNovel, known_novel_figure
from deepsad_pl.report.legends import column_entries
from deepsad_pl.report.scatter import scatter_figure
from deepsad_pl.report.style import LARGE, SMALL, rendered, styles_of, styles_of_columns
from deepsad_pl.report.zoom import zoomed
from deepsad_pl.settings.about import own, own_columns

FORMATS = [FigureFormat(style, width) for style, width in itertools.product(("paper", "slides"), ("page", "column"))]
COLUMN = FigureFormat("paper", "column")
VALUES = (0.0, 0.01, 0.05, 0.1, 0.2)
TITLE = "Scenario (i): ratio of labeled anomalies"


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    methods=st.integers(1, 12),
    rows=st.integers(1, 5),
    units=st.sampled_from([1, 2, 10]),
    spread=st.sampled_from([0.0, 0.002, 0.05]),
    datasets=st.integers(1, 2),
    seed=st.integers(0, 99),
    form=st.sampled_from(FORMATS),
)
@example(methods=12, rows=1, units=10, spread=0.05, datasets=2, seed=1, form=COLUMN)
@example(methods=12, rows=5, units=10, spread=0.002, datasets=2, seed=2, form=PAGE)
@example(methods=1, rows=1, units=1, spread=0.0, datasets=1, seed=0, form=COLUMN)
def test_no_text_is_cut_off_or_over_another_and_stars_are_inside(
    methods: int, rows: int, units: int, spread: float, datasets: int, seed: int, form: FigureFormat
) -> None:
    columns = list(itertools.islice(itertools.cycle(COLUMNS), seed % len(COLUMNS), seed % len(COLUMNS) + methods))
    frame = results(
        columns, VALUES[:rows], seed=seed, units=units, spread=spread, datasets=("mnist", "my data")[:datasets]
    )
    axes = ["gamma_l"]
    cells, _ = cells_of(frame, axes)
    # As if every best column were significantly so, and test-informed.
    cells = [dataclasses.replace(cell, significant=cell.best, test_informed=("setting",)) for cell in cells]
    figure = auroc_figure(TITLE, cells, axes, "method.lr=[1e-3] method.epochs=[6]", form)
    assert faults(figure) == []
    assert stars_of(figure) == sum(cell.best for cell in cells)


@pytest.mark.parametrize("form", FORMATS[:2], ids=lambda form: form.width)
@pytest.mark.parametrize("rows", [1, 4])
def test_known_beside_novel_and_scatter_plots_have_no_faults(form: FigureFormat, rows: int) -> None:
    frame, axes = results(COLUMNS, VALUES[:rows], spread=0.01), ["gamma_l"]
    known, novel = (cells_of(frame, axes, metric=metric)[0] for metric in ("auroc_known", "auroc_novel"))
    assert faults(known_novel_figure(TITLE, KnownNovel(known, novel), axes, "", form)) == []
    assert faults(scatter_figure(TITLE, *cells_of(frame, axes), axes, "", form)) == []


def test_the_faults_of_a_bad_figure_are_found() -> None:
    figure = Figure(figsize=(2, 2))
    FigureCanvasAgg(figure)
    place = figure.subplots()
    place.set_title("a title that is far too wide for two inches")
    place.text(0.5, 0.5, "one")
    place.text(0.5, 0.52, "two")
    place.plot(0.5, 1.0, marker=(6, 2, 0), markersize=5, clip_on=False)
    place.set_ylim(0, 1)
    told = " ".join(faults(figure))
    assert "is cut off" in told and "'one' is over 'two'" in told and "a star" in told


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.style}-{form.width}")
def test_a_figure_is_as_wide_as_its_format_with_text_of_print_size(form: FigureFormat) -> None:
    wide = {("paper", "page"): 6.75, ("paper", "column"): 3.25, ("slides", "page"): 12, ("slides", "column"): 6}
    cells, _ = cells_of(results(COLUMNS[:3], VALUES[:2]), ["gamma_l"])
    figure = auroc_figure(TITLE, cells, ["gamma_l"], "", form)
    svg = ET.fromstring(rendered(figure, "figure", form)["figure.svg"])
    assert float(svg.attrib["width"].removesuffix("pt")) / 72 == pytest.approx(wide[form.style, form.width])
    factor = float(svg.attrib["width"].removesuffix("pt")) / float(svg.attrib["viewBox"].split()[2])
    assert factor == form.scale == (2 if form.style == "slides" else 1)
    sizes = {text.get_fontsize() for text in figure.findobj(lambda one: hasattr(one, "get_fontsize"))}
    assert min(sizes) >= SMALL == 7
    assert max(sizes) <= LARGE == 9


@pytest.mark.parametrize("wrong", [{"style": "poster"}, {"width": "wide"}])
def test_other_formats_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(DeepSADError, match=r"figure\.\w+ is '\w+'; choose \w+ or \w+"):
        FigureFormat(**wrong)


def test_any_two_styles_of_a_figure_differ_in_grey() -> None:
    mine = [f"my_method_{number}" for number in range(20)]
    for styles in (styles_of_columns([*own_columns(), *mine]), styles_of([*own("method"), *mine])):
        seen = [style.in_grey for style in styles.values()]
        assert len(set(seen)) == len(seen)
    entries = column_entries([*COLUMNS, *mine], [], lines=True)
    assert len({(repr(entry.shape["linestyle"]), entry.shape["marker"]) for entry in entries}) == len(entries)


def test_a_curve_far_below_the_others_is_named_and_leaves_room_for_what_differs() -> None:
    frame = results(["deep_sad", "ocsvm_raw", "deep_svdd", "classifier"], VALUES[:3], spread=0.002)
    frame.loc[frame["column"] == "classifier", "auroc"] -= 0.2
    cells, _ = cells_of(frame, ["gamma_l"])
    cells = [dataclasses.replace(cell, paper=None) for cell in cells]
    figure = auroc_figure("", cells, ["gamma_l"], "")
    low, high = figure.axes[0].get_ylim()
    assert high - low < 5
    texts = " ".join(text for text, _ in drawn_texts(figure)).replace("\n", " ")
    assert "off the axis: Supervised Classifier 7" in texts
    assert "difference to OC-SVM Raw" in texts or "difference to Deep SVDD" in texts


def test_curves_are_left_out_only_if_few_are_far_below() -> None:
    near = {"a": [0.9, 0.95], "b": [0.91], "c": [0.92], "d": [0.90]}
    assert zoomed(near, 0.01).below == {}
    assert zoomed({"a": [0.9], "b": [0.1]}, 0.01).below == {}
    assert list(zoomed({**near, "far": [0.2, 0.3]}, 0.01).below) == ["far"]
    # A curve that reaches the others is drawn to its lowest point.
    crossing = zoomed({**near, "cross": [0.2, 0.91]}, 0.01)
    assert crossing.below == {} and crossing.low < 0.2
    equal = zoomed({"a": [0.5], "b": [0.5]}, 0.1)
    assert equal.high - equal.low == pytest.approx(0.112)


def test_differences_are_paired_and_their_interval_is_over_classes() -> None:
    frame = results(["ocsvm_raw", "deep_sad"], VALUES[:2], spread=0.05)
    frame = frame.assign(auroc=frame["normal_class"].astype(int) / 10 + 0.3)
    frame.loc[frame["column"] == "deep_sad", "auroc"] += 0.1
    cells, _ = cells_of(frame, ["gamma_l"])
    figure = auroc_figure("", cells, ["gamma_l"], "")
    (line,) = [line for line in figure.axes[1].lines if line.get_marker() == "o"]
    assert line.get_ydata() == pytest.approx([10.0, 10.0])
    # The classes differ by 10 points each, but the differences do not, so that the bars have no length.
    (bars,) = figure.axes[1].collections
    assert all(abs(segment[0, 1] - segment[1, 1]) < 1e-9 for segment in bars.get_segments())


def test_one_pair_of_experiments_is_no_scatter() -> None:
    frame = results(["deep_sad", "ocsvm_raw"], [0.05], units=1)
    cells, rankings = cells_of(frame, ["gamma_l"])
    figure = scatter_figure(TITLE, cells, rankings, ["gamma_l"], "")
    assert not any(place.collections for place in figure.axes)
    assert any("fewer than two experiments" in text for text, _ in drawn_texts(figure))
