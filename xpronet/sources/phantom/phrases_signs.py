"""House styles, part two: what each site says about disease, surely or with doubt.

One row per statement, one sentence per site in the order of `state.SITES`. Fields: {side}, {lobe}, {grade} and {size}
(severity in the site's own words), {lesion}, {count}, and for number {s}, {be}, {a}. Rows that end in "?" are the
uncertain wordings. The words are chosen for labellers: opacity stands only for Lung Opacity, and so on.
"""

GRADES = (
    ("mild", "moderate", "severe"),
    ("slight", "moderate", "marked"),
    ("mild", "moderate", "severe"),
    ("discrete", "intermediate", "pronounced"),
    ("modest", "appreciable", "gross"),
)
SIZES = (
    ("small", "moderate", "large"),
    ("minor", "medium", "massive"),
    ("small", "moderate", "large"),
    ("minimal", "average", "extensive"),
    ("little", "sizeable", "huge"),
)
LESIONS = ("small nodule", "nodule", "mass")
COUNTS = ("one", "two", "three")
LOBES = {
    ("right", "upper"): "right upper lobe",
    ("right", "middle"): "right middle lobe",
    ("right", "lower"): "right lower lobe",
    ("left", "upper"): "left upper lobe",
    ("left", "middle"): "lingula",
    ("left", "lower"): "left lower lobe",
}

SIGNS = {
    "Cardiomegaly": (
        "there is {grade} cardiomegaly",
        "cardiac silhouette is enlarged to a {grade} degree",
        "{grade} enlargement of the heart",
        "{grade} cardiomegaly with increased cardiothoracic ratio",
        "we see {grade} cardiac enlargement",
    ),
    "Cardiomegaly?": (
        "the heart size is borderline and mild cardiomegaly is possible",
        "cardiac silhouette is at the upper limit and may be enlarged",
        "possible cardiomegaly accentuated by AP projection",
        "borderline cardiac diameter cardiomegaly cannot be excluded",
        "the heart may be a touch large and cardiomegaly is possible",
    ),
    "Enlarged Cardiomediastinum": (
        "there is {grade} widening of the mediastinum",
        "the mediastinal silhouette is widened to a {grade} degree",
        "{grade} mediastinal widening",
        "mediastinum shows {grade} broadening and is enlarged",
        "the upper mediastinum is widened with {grade} fullness",
    ),
    "Enlarged Cardiomediastinum?": (
        "the mediastinum is possibly widened",
        "apparent prominence may represent an enlarged mediastinum",
        "questionable mediastinal widening",
        "mediastinum of borderline width enlargement cannot be excluded",
        "the upper mediastinum could be slightly widened",
    ),
    "Lung Opacity hazy": (
        "there is a hazy opacity of {grade} extent in the {lobe}",
        "{grade} ground glass opacity is demonstrated within the {lobe}",
        "{grade} hazy opacity {lobe}",
        "{lobe} contains a veil like opacity of {grade} extent",
        "a cloudy opacity of {grade} degree covers the {lobe}",
    ),
    "Lung Opacity patchy": (
        "there are patchy opacities of {grade} extent in the {lobe}",
        "{grade} heterogeneous opacities are demonstrated within the {lobe}",
        "{grade} patchy opacities {lobe}",
        "{lobe} contains mottled opacities of {grade} extent",
        "scattered opacities of {grade} degree dot the {lobe}",
    ),
    "Lung Opacity?": (
        "there is a questionable faint opacity in the {lobe}",
        "subtle opacity is suspected within the {lobe}",
        "possible opacity {lobe}",
        "{lobe} may contain a faint opacity",
        "a delicate opacity in the {lobe} cannot be ruled out",
    ),
    "Lung Lesion single": (
        "there is a {lesion} in the {lobe}",
        "a well circumscribed {lesion} is demonstrated within the {lobe}",
        "rounded {lesion} {lobe}",
        "{lobe} harbors a solitary {lesion}",
        "we see a coin shaped {lesion} inside the {lobe}",
    ),
    "Lung Lesion multiple": (
        "there are multiple pulmonary nodules in both lungs",
        "numerous well circumscribed nodules are demonstrated bilaterally",
        "multiple bilateral nodules",
        "disseminated nodules involve both lung fields",
        "we see several round nodules on either side",
    ),
    "Lung Lesion?": (
        "there is a possible nodule in the {lobe}",
        "an ill defined focus within the {lobe} may represent a nodule",
        "questionable nodule {lobe}",
        "{lobe} suspected of harboring a nodule",
        "a tiny nodule in the {lobe} cannot be ruled out",
    ),
    "Edema": (
        "there is {grade} interstitial pulmonary edema",
        "perihilar blurring with Kerley septa indicates {grade} edema",
        "{grade} pulmonary edema",
        "cephalization and {grade} interstitial edema of cardiac origin",
        "the hila are blurred by {grade} vascular congestion and edema",
    ),
    "Edema?": (
        "there is possible mild interstitial edema",
        "indistinct hila may reflect early edema",
        "possible early pulmonary edema",
        "interstitial edema cannot be excluded",
        "the hila look blurred and edema is suspected",
    ),
    "Consolidation": (
        "there is {grade} consolidation of the {lobe}",
        "dense {grade} consolidation occupies the {lobe}",
        "{grade} lobar consolidation {lobe}",
        "{lobe} shows homogeneous {grade} consolidation limited by the fissure",
        "the {lobe} is solid with {grade} consolidation",
    ),
    "Consolidation?": (
        "there is possible early consolidation of the {lobe}",
        "incomplete filling of the {lobe} may represent consolidation",
        "possible consolidation {lobe}",
        "{lobe} suspected of early consolidation",
        "beginning consolidation of the {lobe} cannot be ruled out",
    ),
    "Pneumonia": (
        "{grade} multifocal consolidation centered in the {lobe} is consistent with pneumonia",
        "air bronchograms within {grade} consolidation of the {lobe} indicate pneumonia",
        "{grade} {lobe} consolidation compatible with pneumonia",
        "bronchopneumonia with {grade} confluent consolidation mainly of the {lobe}",
        "a {grade} pneumonia has produced fluffy consolidation around the {lobe}",
    ),
    "Pneumonia?": (
        "patchy consolidation in the {lobe} may represent early pneumonia",
        "developing pneumonia with consolidation is suspected within the {lobe}",
        "{lobe} consolidation possible pneumonia",
        "{lobe} suspected of pneumonia with faint consolidation",
        "light consolidation in the {lobe} makes us suspect pneumonia",
    ),
    "Atelectasis": (
        "there is {grade} {side} basilar atelectasis",
        "linear bands at the {side} base{s} represent {grade} subsegmental atelectasis",
        "{grade} {side} basal atelectasis",
        "{side} plate like atelectasis of {grade} degree with basal volume loss",
        "stripes of {grade} discoid atelectasis cross the {side} base{s}",
    ),
    "Atelectasis?": (
        "streaky shadows at the {side} base{s} may represent atelectasis",
        "thin bands at the {side} base{s} likely reflect atelectasis",
        "probable {side} basal atelectasis",
        "{side} basal atelectasis cannot be excluded",
        "faint stripes at the {side} base{s} could represent atelectasis",
    ),
    "Pneumothorax": (
        "there is a {size} {side} pneumothorax",
        "visceral pleural edge is displaced by a {size} {side} pneumothorax",
        "{size} {side} pneumothorax",
        "{side} pneumothorax of {size} extent with peripheral absence of vessels",
        "a {size} pocket of air in keeping with pneumothorax surrounds the {side} lung",
    ),
    "Pneumothorax?": (
        "there is a possible tiny {side} apical pneumothorax",
        "a thin lucency along the {side} apex may represent pneumothorax",
        "questionable {side} pneumothorax",
        "{side} pneumothorax cannot be excluded",
        "a sliver of air is suspicious for {side} pneumothorax",
    ),
    "Pleural Effusion": (
        "there {be} {a}{size} {side} pleural effusion{s}",
        "{size} {side} pleural effusion{s} with meniscus formation {be} demonstrated",
        "{size} {side} effusion{s}",
        "{side} pleural effusion{s} of {size} quantity",
        "a {size} amount of pleural fluid has gathered on the {side}",
    ),
    "Pleural Effusion?": (
        "blunting of the {side} costophrenic angle{s} may represent a trace pleural effusion",
        "trace {side} pleural fluid is suspected from obscured sulci",
        "possible {side} effusion{s}",
        "{side} pleural effusion of small quantity cannot be excluded",
        "a trickle of pleural fluid on the {side} is suspected",
    ),
    "Pleural Other apical": (
        "there is {grade} {side} apical pleural thickening",
        "{side} apical cap with {grade} pleural thickening is demonstrated",
        "{grade} {side} apical pleural thickening",
        "pleural thickening of {grade} degree caps the {side} apex",
        "the {side} summit is lined by {grade} pleural thickening",
    ),
    "Pleural Other lateral": (
        "there is {grade} pleural thickening along the {side} lateral chest wall",
        "{grade} rind of pleural thickening is demonstrated along the {side} flank",
        "{grade} {side} lateral pleural thickening",
        "pleural thickening of {grade} degree follows the {side} ribs",
        "the {side} flank is lined by {grade} pleural thickening",
    ),
    "Pleural Other plaque": (
        "there is {side} pleural thickening with calcified plaques",
        "calcified plaques of {side} pleural thickening are demonstrated",
        "calcified {side} pleural thickening",
        "pleural thickening with lime deposits on the {side}",
        "holly leaf plaques mark {side} pleural thickening",
    ),
    "Pleural Other?": (
        "there is possible {side} pleural thickening",
        "an indistinct {side} margin may represent pleural thickening",
        "questionable {side} pleural thickening",
        "{side} pleural thickening cannot be excluded",
        "the {side} pleura seems thick and pleural thickening is suspected",
    ),
    "Fracture single": (
        "there is a displaced fracture of a {side} lateral rib",
        "a displaced {side} rib fracture with callus is demonstrated",
        "{side} rib fracture",
        "{side} costal fracture with step off",
        "one {side} rib is broken and the fracture ends override",
    ),
    "Fracture several": (
        "there are displaced fractures of {count} {side} lateral ribs",
        "{count} displaced {side} rib fractures with callus are demonstrated",
        "{count} {side} rib fractures",
        "{side} costal fractures at {count} levels with step off",
        "{count} {side} ribs are broken and the fracture ends override",
    ),
    "Fracture?": (
        "there is a possible fracture of a {side} lateral rib",
        "cortical irregularity may represent a {side} rib fracture",
        "questionable {side} rib fracture",
        "{side} costal fracture cannot be excluded",
        "one {side} rib is suspected of harboring a fracture",
    ),
}

# Short forms for the impression: (sure, uncertain).
SUMMARIES = {
    "Cardiomegaly": ("{grade} cardiomegaly", "possible cardiomegaly"),
    "Enlarged Cardiomediastinum": ("widened mediastinum", "possible widening of the mediastinum"),
    "Lung Opacity": ("{lobe} opacity", "possible {lobe} opacity"),
    "Lung Lesion single": ("{lobe} {lesion}", "possible {lobe} nodule"),
    "Lung Lesion multiple": ("multiple pulmonary nodules", "possible pulmonary nodules"),
    "Edema": ("{grade} pulmonary edema", "possible pulmonary edema"),
    "Consolidation": ("{lobe} consolidation", "possible {lobe} consolidation"),
    "Pneumonia": ("{lobe} consolidation consistent with pneumonia", "{lobe} consolidation, possible pneumonia"),
    "Atelectasis": ("{side} basilar atelectasis", "probable {side} basilar atelectasis"),
    "Pneumothorax": ("{size} {side} pneumothorax", "possible {side} pneumothorax"),
    "Pleural Effusion": ("{size} {side} pleural effusion{s}", "possible {side} pleural effusion{s}"),
    "Pleural Other": ("{side} pleural thickening", "possible {side} pleural thickening"),
    "Fracture": ("{side} rib fracture", "possible {side} rib fracture"),
}
NOTHING = (
    "no acute cardiopulmonary abnormality",
    "no radiographic evidence of acute cardiopulmonary disease",
    "no acute process",
    "normal chest radiograph for age",
    "we find nothing acute in the chest",
)
DEVICES_PRESENT = (
    "support devices as described",
    "tubes and devices in satisfactory position",
    "lines and tubes as above",
    "devices correctly placed",
    "the implanted or inserted devices are unchanged",
)
