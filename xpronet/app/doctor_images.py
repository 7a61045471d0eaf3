"""What the doctor says of pictures: odd sizes, blank ones, and the same one in several places."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from xpronet.app.doctor_page import Page, counted
from xpronet.app.duplicates import BLANK, look, near_duplicates
from xpronet.data.dataset import image_positions
from xpronet.data.pack import ImagePack
from xpronet.data.studies import Study


def examine_images(page: Page, studies: Sequence[Study], pack: ImagePack) -> None:
    """Sizes, blank pictures, and the same or nearly the same picture in several places."""
    owner = [study for study, positions in zip(studies, image_positions(studies), strict=True) for _ in positions]
    if len(owner) != len(pack):
        page.say(
            "breaks", f"the annotation has {len(owner)} images and the pack {len(pack)}", "run `dvc repro -f prepare`"
        )
        return
    height, width = pack.sizes.T
    small = np.flatnonzero(np.minimum(height, width) < pack.resize)
    odd = np.flatnonzero(np.maximum(height, width) > 2 * np.minimum(height, width))
    if len(small):
        page.say(
            "warns",
            f"{counted([owner[i].id for i in small], 'image')} smaller than images.resize {pack.resize}",
            "they are enlarged and hold less than others",
        )
    if len(odd):
        page.say(
            "warns",
            f"{counted([owner[i].id for i in odd], 'image')} more than twice as long as wide",
            "squared, they are distorted: perhaps no chest, or two views in one file",
        )
    hashes, deviations = look(pack)
    blank = np.flatnonzero(deviations < BLANK)
    if len(blank):
        page.say(
            "warns",
            f"{counted([owner[i].id for i in blank], 'image')} blank",
            "take them out: the model learns to describe nothing",
        )
    seen = np.flatnonzero(deviations >= BLANK)
    places = defaultdict(list)
    for position in seen:
        places[pack.sha256[position]].append(owner[position])
    _say_shared(page, "the same picture", [found for found in places.values() if len(found) > 1])
    pairs = [(seen[a], seen[b]) for a, b in near_duplicates(hashes[seen])]
    near = [[owner[a], owner[b]] for a, b in pairs if pack.sha256[a] != pack.sha256[b]]
    _say_shared(page, "nearly the same picture", near)


def _say_shared(page: Page, what: str, groups: list[list[Study]]) -> None:
    """What pictures have several places: a list of studies per picture, a study once for each of its images in it."""
    twice = {study.id for group in groups for study, count in _times(group) if count > 1}
    distinct = [[study for study, _ in _times(group)] for group in groups]
    across = [group for group in distinct if len({study.split for study in group}) > 1]
    inside = [group for group in distinct if len(group) > 1 and len({study.split for study in group}) == 1]
    meanings = (
        (across, "in different splits", "the model is tested on what it has seen: scores are too high"),
        (inside, "in different studies of a split", "they count twice"),
    )
    for found, where, meaning in meanings:
        if found:
            names = [" = ".join(study.id for study in group[:4]) for group in found]
            page.say("warns", f"{what} {where}: {counted(names, 'case')}", meaning)
    if twice:
        meaning = "a second view that shows nothing new: leave it out"
        page.say("warns", f"{what} twice within {counted(sorted(twice), 'study')}", meaning)
    if not across and not inside:
        page.say("fine", f"no two studies have {what}")


def _times(group: list[Study]) -> list[tuple[Study, int]]:
    """Each study of a group once, and how often it stands there."""
    counts = Counter(study.id for study in group)
    return [(study, counts[id]) for id, study in {study.id: study for study in group}.items()]
