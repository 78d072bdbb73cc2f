"""The figures of the methods' pages."""

from pathlib import Path

import pytest
from PIL import Image

from benchmarks import method_figures


def test_a_page_s_figure_has_a_panel_for_the_data_and_for_each_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    method_figures.main(["trees", "--figures", "figures"])
    assert capsys.readouterr().out.endswith("figures/trees.png\n")
    with Image.open("figures/trees.png") as drawn:
        assert drawn.width == 2 * 440
        colors = {color for _, color in drawn.convert("RGB").getcolors(maxcolors=2**20) or ()}

    def near(color: tuple[int, int, int]) -> bool:
        return any(max(abs(a - b) for a, b in zip(color, one, strict=True)) < 16 for one in colors)

    # Normal, known and novel samples can be told apart.
    assert near((0x00, 0x72, 0xB2)) and near((0xE6, 0x9F, 0x00)) and near((0xD5, 0x5E, 0x00))


def test_every_page_but_those_without_a_figure_has_methods() -> None:
    for page in method_figures.PAGES.glob("*.md"):
        assert method_figures.methods_of(page), page
        assert (method_figures.FIGURES / f"{page.stem}.png").exists() != (page.stem in method_figures.WITHOUT_FIGURE)


def test_an_unknown_page_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        method_figures.main(["tree"])
    assert "there is no page tree; the pages are autoencoder, classifier" in capsys.readouterr().err
