"""The sentences of the reports: for each statement the usual one, and the other one that is chosen now and then.

Fields: {side}, {lobe}, {grade} and {size} (severity), {lesion}, {count}, and for number {s}, {be}, {a}. Rows that end
in "?" are the uncertain wordings. The words are chosen for labellers: opacity stands only for Lung Opacity, and so on;
no row of HEALTHY may name a disease except to deny it; "line", "marker" or "support" stand for devices.
"""

GRADES = ("mild", "moderate", "severe")
SIZES = ("small", "moderate", "large")
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

# Normal anatomy and incidental variants.
HEALTHY = {
    "heart": (
        "the heart is normal in size",
        "cardiac size lies within normal limits",
    ),
    "mediastinum": (
        "the mediastinal contours are unremarkable",
        "hilar and mediastinal structures appear unremarkable",
    ),
    "lungs": (
        "the lungs are clear",
        "both lungs appear clear without focal consolidation",
    ),
    "rest of lungs": (
        "the remaining lung is clear",
        "elsewhere the parenchyma is well aerated",
    ),
    "vessels": (
        "pulmonary vasculature is within normal limits",
        "no vascular congestion is identified",
    ),
    "pleura": (
        "there is no pleural effusion or pneumothorax",
        "no evidence of pneumothorax or pleural fluid collection is demonstrated",
    ),
    "no effusion": (
        "there is no pleural effusion",
        "pleural fluid is not demonstrated",
    ),
    "no pneumothorax": (
        "there is no pneumothorax",
        "no evidence of pneumothorax is demonstrated",
    ),
    "bones": (
        "the osseous structures are intact",
        "visualized bony thorax reveals no acute abnormality",
    ),
    "low volume": (
        "lung volumes are low",
        "inspiratory effort is poor with crowding of bronchovascular structures",
    ),
    "high volume": (
        "the lungs are hyperinflated with flattened diaphragms",
        "hyperexpansion is present suggesting chronic obstructive pulmonary disease",
    ),
    "tortuous aorta": (
        "the thoracic aorta is tortuous",
        "an ectatic aortic knob is noted",
    ),
    "calcified aorta": (
        "there is calcification of the aortic arch",
        "atherosclerotic changes of the aorta are noted",
    ),
    "degenerative spine": (
        "there are mild degenerative changes of the thoracic spine",
        "multilevel spondylosis with osteophytes is again noted",
    ),
    "scoliosis spine": (
        "there is scoliosis of the thoracic spine",
        "scoliotic curvature is noted",
    ),
}

DEVICES = {
    "pacemaker": (
        "a {side} chest wall pacemaker is present with leads in the right atrium and right ventricle",
        "{side} pectoral pacer device with two intact leads is demonstrated",
    ),
    "endotracheal": (
        "an endotracheal tube terminates above the carina",
        "the tip of the endotracheal tube lies several centimeters above the carinal bifurcation",
    ),
    "central": (
        "a {side} internal jugular central venous catheter terminates in the superior vena cava",
        "{side} jugular catheter with tip projecting over the lower vena cava is demonstrated",
    ),
    "nasogastric": (
        "an enteric tube courses below the diaphragm into the stomach",
        "the nasogastric tube descends with its tip projecting over the gastric body",
    ),
    "chest": (
        "a {side} chest tube is in place with its tip at the apex",
        "{side} thoracostomy tube directed toward the apex is demonstrated",
    ),
    "sternotomy": (
        "median sternotomy wires and a prosthetic heart valve are present",
        "postsurgical changes of sternotomy and valve replacement are demonstrated",
    ),
}

SIGNS = {
    "Cardiomegaly": (
        "there is {grade} cardiomegaly",
        "cardiac silhouette is enlarged to a {grade} degree",
    ),
    "Cardiomegaly?": (
        "the heart size is borderline and mild cardiomegaly is possible",
        "cardiac silhouette is at the upper limit and may be enlarged",
    ),
    "Enlarged Cardiomediastinum": (
        "there is {grade} widening of the mediastinum",
        "the mediastinal silhouette is widened to a {grade} degree",
    ),
    "Enlarged Cardiomediastinum?": (
        "the mediastinum is possibly widened",
        "apparent prominence may represent an enlarged mediastinum",
    ),
    "Lung Opacity": (
        "there is a hazy opacity of {grade} extent in the {lobe}",
        "{grade} ground glass opacity is demonstrated within the {lobe}",
    ),
    "Lung Opacity?": (
        "there is a questionable faint opacity in the {lobe}",
        "subtle opacity is suspected within the {lobe}",
    ),
    "Lung Lesion single": (
        "there is a {lesion} in the {lobe}",
        "a well circumscribed {lesion} is demonstrated within the {lobe}",
    ),
    "Lung Lesion multiple": (
        "there are multiple pulmonary nodules in both lungs",
        "numerous well circumscribed nodules are demonstrated bilaterally",
    ),
    "Lung Lesion?": (
        "there is a possible nodule in the {lobe}",
        "an ill defined focus within the {lobe} may represent a nodule",
    ),
    "Edema": (
        "there is {grade} interstitial pulmonary edema",
        "perihilar blurring with Kerley septa indicates {grade} edema",
    ),
    "Edema?": (
        "there is possible mild interstitial edema",
        "indistinct hila may reflect early edema",
    ),
    "Consolidation": (
        "there is {grade} consolidation of the {lobe}",
        "dense {grade} consolidation occupies the {lobe}",
    ),
    "Consolidation?": (
        "there is possible early consolidation of the {lobe}",
        "incomplete filling of the {lobe} may represent consolidation",
    ),
    "Pneumonia": (
        "{grade} multifocal consolidation centered in the {lobe} is consistent with pneumonia",
        "air bronchograms within {grade} consolidation of the {lobe} indicate pneumonia",
    ),
    "Pneumonia?": (
        "patchy consolidation in the {lobe} may represent early pneumonia",
        "developing pneumonia with consolidation is suspected within the {lobe}",
    ),
    "Atelectasis": (
        "there is {grade} {side} basilar atelectasis",
        "linear bands at the {side} base{s} represent {grade} subsegmental atelectasis",
    ),
    "Atelectasis?": (
        "streaky shadows at the {side} base{s} may represent atelectasis",
        "thin bands at the {side} base{s} likely reflect atelectasis",
    ),
    "Pneumothorax": (
        "there is a {size} {side} pneumothorax",
        "visceral pleural edge is displaced by a {size} {side} pneumothorax",
    ),
    "Pneumothorax?": (
        "there is a possible tiny {side} apical pneumothorax",
        "a thin lucency along the {side} apex may represent pneumothorax",
    ),
    "Pleural Effusion": (
        "there {be} {a}{size} {side} pleural effusion{s}",
        "{size} {side} pleural effusion{s} with meniscus formation {be} demonstrated",
    ),
    "Pleural Effusion?": (
        "blunting of the {side} costophrenic angle{s} may represent a trace pleural effusion",
        "trace {side} pleural fluid is suspected from obscured sulci",
    ),
    "Pleural Other apical": (
        "there is {grade} {side} apical pleural thickening",
        "{side} apical cap with {grade} pleural thickening is demonstrated",
    ),
    "Pleural Other plaque": (
        "there is {side} pleural thickening with calcified plaques",
        "calcified plaques of {side} pleural thickening are demonstrated",
    ),
    "Pleural Other?": (
        "there is possible {side} pleural thickening",
        "an indistinct {side} margin may represent pleural thickening",
    ),
    "Fracture single": (
        "there is a displaced fracture of a {side} lateral rib",
        "a displaced {side} rib fracture with callus is demonstrated",
    ),
    "Fracture several": (
        "there are displaced fractures of {count} {side} lateral ribs",
        "{count} displaced {side} rib fractures with callus are demonstrated",
    ),
    "Fracture?": (
        "there is a possible fracture of a {side} lateral rib",
        "cortical irregularity may represent a {side} rib fracture",
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
NOTHING = "no acute cardiopulmonary abnormality"
DEVICES_PRESENT = "support devices as described"
