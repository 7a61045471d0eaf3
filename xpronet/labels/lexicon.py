"""Phrase tables of the rule labeller: what names an observation, what denies it and what puts it in doubt.

Every entry is a regular expression fragment for lower-case text with single spaces, matched between word boundaries.
`\\S+` stands where de-identified reports carry a placeholder. The classes follow the labelling rules of CheXpert
(Irvin et al., 2019), with the habits of CheXbert where the two differ: "heart failure" is both
Cardiomegaly and Edema, lung scarring is Lung Opacity, fibrosis is Pleural Other.
"""


def _gap(*never: str) -> str:
    """Up to nine words between a structure and what is said of it; none opens a clause, names another or is `never`."""
    apart = (
        r"but|however|although|though|while|with|without|aort\w+|lungs?|effusions?|opaci\w+|infiltrat\w+|scar\w*|"
        r"disease|haz\w+|markings|consolidat\w+|nodul\w+|mass|atelectasis|pneumothorax|hernia|failure|edema"
    )
    return rf"(?:(?!, the\b),?[ /](?!(?:{'|'.join((apart, *never))})\b)[\w-]+){{0,9}}?,?[ /]"


_CHANGED = r"enlarge\w+|wid\w+|increase\w*|prominen\w+|borderline"
_TO_CHANGED = _gap("normal", "unremarkable")
_TO_NORMAL = _gap(_CHANGED, "not")
_FROM_NORMAL = _gap(_CHANGED, r"in|is|are|appears?|limits")
_NORMAL = r"(?:normal|unremarkable|ordinary|usual|regular|within (?:normal |expected )?limits|upper limits)"
_HEART = r"(?:heart(?: size| shadow| silhouette)?|cardiac (?:silhouettes?|size|contours?|shadow)|cardiothoracic ratio)"
_MEDIASTINUM = r"(?:cardio[- ]?)?mediastin(?:um|al)"
_LUNG = r"(?:lungs?|pulmonary|lobes?|lobar|base|bases|basilar|apex|apices)"

# What names an observation. Each is positive unless a cue below says otherwise.
MENTIONS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        r"(?:enlarge|wide|prominen|abnormal)\w* (?:(?!stable)\S+ )?(?:of )?(?:the )?(?:\S+ and |superior )?"
        rf"{_MEDIASTINUM}",
        rf"{_MEDIASTINUM}{_TO_CHANGED}(?:enlarge|widen|prominen)\w+",
        r"mediastinal (?:mass|opacity|fullness)",
        r"hilar fullness",
        r"(?:hilar|mediastinal|paratracheal|paraspinal\S*) (?:\S+ )?(?:lymph)?adenopathy",
        r"changes of the mediastinum",
        r"(?:ascending )?aortic (?:aneurysm|dissection)",
    ),
    "Cardiomegaly": (
        r"cardiomegaly",
        r"(?:heart|cardiac|congestive) failure",
        r"chf",
        rf"enlarge(?:d|ment) (?:of )?(?:the )?(?:\S+ )?{_HEART}",
        rf"increased? (?:in )?(?:the )?(?:size )?(?:of )?(?:the )?{_HEART}",
        rf"{_HEART}{_TO_CHANGED}enlarge\w+",
        rf"{_HEART}(?: \w+){{0,2}}? (?:is|are|appears|remains) (?:\w+ly )?(?:large|increased|prominent)",
        r"(?:cardiac|ventricular|biventricular) enlargement",
    ),
    "Lung Opacity": (
        r"(?<!nodular )(?<!mediastinal )opacit(?:y|ies)",
        r"opacifications?",
        r"infiltrates?",
        r"infiltrations?",
        r"air ?space (?:and \S+ )?diseases?",
        # A prominent interstitium is none for CheXbert (on the impressions of IU-Xray), a thickened one is.
        r"interstitial (?:\S+ ){0,2}(?:diseases?|changes?|infiltrates?|pattern|thickening)",
        r"thicken(?:ed|ing) (?:of )?(?:the )?(?:\S+ )?interstitium",
        r"(?:increased|prominent|prominence of|coarse|coarsened|subtle|accentuated) (?:\S+ ){0,3}?markings",
        r"interstitial markings",
        r"reticulonodular pattern",
        r"(?<!perihilar )haz(?:e|iness|y)",
        r"(?<!pleural )(?<!pleural-parenchymal )scar(?:s|ring)?",
        r"bronchiectasis",
    ),
    "Lung Lesion": (
        r"nodules?",
        r"nodular (?:\S+ )?(?:opacity|opacities|density|densities)",
        r"nodularity",
        r"mass(?:es)?(?:-?like)?",
        r"(?:lung|pulmonary|cavitary) lesions?",
        r"tumors?",
        r"neoplas(?:m|ms|tic)",
        r"carcinoma",
        r"malignancy",
        r"lung cancer",
        r"metasta(?:sis|ses)",
        r"(?:round|rounded|ovoid) (?:opacity|opacities|density|densities)",
    ),
    "Edema": (
        r"(?<!soft tissue )edema",
        r"(?:heart|cardiac|congestive) failure",
        r"chf",
        r"(?:fluid|volume) overload",
    ),
    "Consolidation": (r"consolidat(?:ion|ions|ive)",),
    "Pneumonia": (
        r"(?:broncho)?pneumonias?",
        r"infections?",
        r"infectious",
    ),
    "Atelectasis": (
        r"atelecta(?:sis|ses|tic)",
        rf"collapse of (?:\S+ ){{0,6}}?{_LUNG}",
        rf"{_LUNG} collapse",
    ),
    "Pneumothorax": (r"(?:hydro|hemo)?pneumothora(?:x|ces)",),
    "Pleural Effusion": (
        r"(?<!pericardial )effusions?",
        r"pleural fluid",
        r"fluid (?:with)?in (?:the )?(?:\S+ ){0,2}?fissures?",
        r"fissural fluid",
        r"hydro(?:pneumo)?thorax",
        r"hemothorax",
    ),
    "Pleural Other": (
        r"pleural(?:-parenchymal)? (?:\S+ ){0,2}?(?:thickening|scar(?:s|ring)?|plaques?|calcifications?)",
        r"fibrosis",
        r"fibrothorax",
        r"pleuritis",
    ),
    "Fracture": (r"fractur(?:e|es|ed)",),
    "Support Devices": (
        r"catheters?",
        r"(?:picc|central|venous|arterial|jugular|subclavian|swan-ganz|swan|ij|\w+-sided) (?:\S+ )?lines?",
        r"picc",
        r"tub(?:es?|ing)",
        r"lines and tubes",
        r"devices?",
        r"hardware",
        r"pacemakers?",
        r"pacer",
        r"generators?",
        r"(?:nerve|spinal cord|vagal|neuro)[ -]?stimulators?",
        r"loop recorder",
        r"aicd",
        r"icd",
        r"defibrillator",
        r"(?:port-?a-?cath|mediport|chest port|infusion port)",
        r"(?:pleural|chest|pigtail) drains?",
        r"wire(?:s|d)?",
        r"(?:pacing|pacer|cardiac|icd|aicd) leads?",
        r"(?:artificial|prosthetic|mechanical) (?:\S+ )?valves?",
        r"valve (?:replacement|prosthes[ie]s)",
        r"(?<!scapular )tip (?:is |now )?(?:projects|projecting|projected|overlies|overlying|terminates|terminating)",
    ),
}

# A mention of an observation, in any of the four tables, contains one of these: a quick test before the patterns.
ANCHORS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": ("mediastin", "hilar", "adenopathy", "aortic"),
    "Cardiomegaly": ("heart", "cardi", "failure", "chf", "ventric"),
    "Lung Opacity": (
        "opaci", "infiltrat", "disease", "interstiti", "markings", "pattern", "haz", "scar", "bronchiect", "lung",
    ),
    "Lung Lesion": ("nodul", "mass", "lesion", "tumor", "neoplas", "carcinoma", "malignan", "cancer", "metasta",
        "round", "ovoid"),
    "Edema": ("edema", "failure", "chf", "overload", "congesti", "prominence", "engorge", "haz", "kerley"),
    "Consolidation": ("consolidat",),
    "Pneumonia": ("pneumonia", "infecti"),
    "Atelectasis": ("atelecta", "collapse"),
    "Pneumothorax": ("thora",),
    "Pleural Effusion": ("effusion", "pleural", "thorax", "costophrenic", "fissur"),
    "Pleural Other": ("pleur", "fibro"),
    "Fracture": ("fractur",),
    "Support Devices": (
        "catheter", "line", "picc", "tub", "pace", "pacing", "icd", "defib", "port", "drain", "wire", "lead",
        "hardware", "device", "tip", "valve", "generator", "stimulator", "recorder",
    ),
}  # fmt: skip

# Names that count where they are affirmed or denied: CheXbert passes over "metastatic disease is possible".
STATED: dict[str, tuple[str, ...]] = {
    "Lung Lesion": (r"metastatic (?:\S+ )?(?:diseases?|lesions?|deposits?)",),
}

# Signs that only hint at an observation: uncertain where they stand affirmed.
HINTS: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": (
        rf"borderline (?:\S+ )?(?:{_HEART}|cardiomegaly|(?:cardiac|ventricular) enlargement)",
        rf"borderline enlarge(?:d|ment) (?:of )?(?:the )?(?:\S+ )?{_HEART}",
        rf"{_HEART}{_TO_CHANGED}borderline",
    ),
    "Edema": (
        r"congestion",
        r"(?:vascular|vascularity|venous) (?:prominence|engorgement)",
        r"perihilar haz(?:e|iness)",
        r"kerley",
    ),
    "Pleural Effusion": (
        r"blunt(?:ing|ed) (?:\S+ ){0,5}?costophrenic",
        r"costophrenic (?:\S+ ){0,3}?blunt(?:ing|ed)",
    ),
}

# Statements of health that make an observation negative on their own.
NORMALS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (rf"{_NORMAL}{_FROM_NORMAL}{_MEDIASTINUM}", rf"{_MEDIASTINUM}{_TO_NORMAL}{_NORMAL}"),
    "Cardiomegaly": (rf"{_NORMAL}{_FROM_NORMAL}{_HEART}", rf"{_HEART}{_TO_NORMAL}{_NORMAL}"),
    "Lung Opacity": (r"clear lungs", rf"lungs?{_TO_NORMAL}clear(?! of)"),
    "Pleural Effusion": (r"pleural spaces (?:are |appear )?clear", r"costophrenic (?:\S+ ){1,3}?(?:clear|sharp)"),
}

_SEEN = (
    r"(?:seen|identified|visuali[sz]ed|present|evident|demonstrated|appreciated|noted|detected|observed|apparent|"
    r"visible|found|shown)"
)

_NOT_TURNED = r"(?! (?:is|are|was|were) (?:the|an?|any)\b)"  # "no longer seen is the effusion" denies what follows
# "near-complete" and "nearly" are as good as "complete", for CheXbert.
_PARTLY = r"(?:(?:not|never)(?: yet| fully| completely| entirely)?|partial(?:ly)?|incomplete(?:ly)?)"

# The cues, in the order in which they are tried where two start at the same word.
CUES: dict[str, tuple[str, ...]] = {
    # Look like negations and are none; like a stop they end the reach of other cues.
    "unchanged": (
        r"(?:no|not|without)(?: (?:significant|interval|definite|gross|apparent|other|\w+ly))* "
        r"(?:changed?|changes|increased?|decrease|difference|improve(?:d|ment)|worse(?:n(?:ed|ing))?|progress(?:ed|ion)|"
        r"resolution|clearing)",
        rf"(?:(?:has|have|had|is|are|was|were) )?{_PARTLY} (?:been )?(?:resolved|cleared|removed|disappeared)",
        rf"{_PARTLY} (?:interval )?(?:resolution|clearing|removal)",
        r"no (?:prior|previous|comparison)",
        r"not only",
        r"no doubt",
    ),
    # Doubt over what comes before.
    "doubt_before": (
        r"(?:(?:cannot|can not|could not) be|not) (?:\S+ )?(?:excluded|ruled out)",
        r"(?:difficult|hard) to (?:\S+ )?(?:exclude|rule out)$",
        r"not (?:well|optimally|adequately|fully|clearly) (?:\S+ )?(?:seen|evaluated|visuali[sz]ed|assessed)",
        r"(?:poorly|incompletely) (?:evaluated|seen|visuali[sz]ed)",
        r"(?:is|are) (?:\S+ )?(?:possible|suspected|questioned|questionable)(?! of)",
        r"unlikely",
        r"in the differential",
        r"could have this appearance",
        r"may (?:also )?be present",
        r"may not be",
        r"less likely",
    ),
    # Denial of what comes before.
    "denied_before": (
        rf"not (?:\S+ )?{_SEEN}{_NOT_TURNED}",
        rf"no longer(?: \S+)? {_SEEN}{_NOT_TURNED}",
        r"(?:has|have) (?:\S+ )?(?:resolved|cleared|disappeared)",
        r"can (?:\S+ )?be (?:\S+ )?(?:excluded|ruled out)",
        r"none(?! of)",
        r"(?:absent|negative|ruled out)(?=$|,)",
        r"(?:no|nil|gone)$",
        r"(?:is|are|was|were) (?:now )?(?:absent|resolved|ruled out|excluded)",
        r"(?:has|have) been (?:removed|ruled out|excluded)",
        r"(?:resolved|cleared)$",
    ),
    # Doubt over all that follows.
    "doubt": (
        r"(?:cannot|can ?not|not|difficult to) (?:\S+ )?(?:exclude|rule out)",
        r"(?:may|might|could|would)",
        r"maybe",
        r"(?:suspicious|concerning|concern|worrisome|suspicion|evaluate|correlate|correlation) (?:\S+ )?(?:for|of)",
        r"differential",
        r"(?:to )?(?:exclude|rule out)",
        r"consider",
        r"if",
        r"favou?red",
    ),
    # Doubt over the next phrase.
    "doubt_next": (
        r"possib(?:le|ly|ility)",
        r"probabl(?:e|y)",
        r"question(?:able|ed)?",
        r"presum(?:ed|ably)",
        r"suspect(?:ed)?",
    ),
    # Alternatives: doubt on both sides.
    "either": (r"versus", r"vs", r"and/?or", r"or"),
    # Denial of all that follows.
    "denied": (
        r"no",
        r"not",
        r"without",
        r"nothing",
        r"absent",
        r"(?:free|clear|absence|lack|devoid) of",
        r"fail(?:s|ed)? to (?:show|demonstrate|reveal|identify)",
        r"excludes",
        r"rules out",
        r"negative(?: for)?",
        r"neither",
        r"nor",
        r"rather than",
        r"resolution of",
        r"resolved|cleared",
        r"clearing of",
        r"removal of",
    ),
    # The reach of every cue ends here.
    "stop": (
        r"but",
        r"however",
        r"(?:al)?though",
        r"except(?: for)?",
        r"(?:aside|apart) from",
        r"other than",
        r"despite",
        r"while",
        r"whereas",
        r"which",
        r"with",
        r"otherwise",
        r"there (?:is|are)",
        r"(?:due|secondary) to",
    ),
}

# A comma or "and" before one of these opens a new statement; before anything else it continues a list.
OPENERS = (
    r"there", r"the", r"an?", r"hearts?", r"cardiac", r"cardiomegaly", r"lungs?", r"with", r"stable", r"unchanged",
    r"mild(?:ly)?", r"moderate(?:ly)?", r"small", r"minimal", r"persistent", r"chronic", r"bibasilar", r"bilateral",
    r"left", r"right", r"low", r"possible", r"probable", r"clear", r"normal",
)  # fmt: skip
