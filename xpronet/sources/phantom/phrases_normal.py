"""House styles, part one: what each site says about normal anatomy, incidental variants and devices.

One row per statement, one sentence per site in the order of `state.SITES`; None where a site never says it. The words
are chosen for labellers: no row may name a disease except to deny it; "line", "marker" or "support" stand for devices.
"""

NORMAL = {
    "technique": (
        None,
        None,
        "single portable AP view of the chest was obtained",
        None,
        None,
    ),
    "heart": (
        "the heart is normal in size",
        "cardiac size lies within normal limits",
        "heart is not enlarged allowing for AP projection",
        "no enlargement of the cardiac shadow",
        "we see a heart of normal dimensions",
    ),
    "mediastinum": (
        "the mediastinal contours are unremarkable",
        "hilar and mediastinal structures appear unremarkable",
        "no gross mediastinal widening",
        "mediastinum is midline and of normal width",
        "the upper mediastinum keeps its normal calibre",
    ),
    "lungs": (
        "the lungs are clear",
        "both lungs appear clear without focal consolidation",
        "no confluent consolidation at this time",
        "lung fields demonstrate preserved transparency throughout",
        "the pulmonary parenchyma is free of acute disease bilaterally",
    ),
    "rest of lungs": (
        "the remaining lung is clear",
        "elsewhere the parenchyma is well aerated",
        "lungs otherwise grossly aerated",
        "remaining lung fields stay transparent",
        "other portions of the parenchyma look fine",
    ),
    "vessels": (
        "pulmonary vasculature is within normal limits",
        "no vascular congestion is identified",
        "no overt pulmonary edema",
        None,
        None,
    ),
    "pleura": (
        "there is no pleural effusion or pneumothorax",
        "no evidence of pneumothorax or pleural fluid collection is demonstrated",
        "negative for large effusion and negative for visible pneumothorax on this supine film",
        "pleural spaces are dry and costophrenic sulci remain sharp",
        "neither air nor fluid is seen in the pleural cavities",
    ),
    "no effusion": (
        "there is no pleural effusion",
        "pleural fluid is not demonstrated",
        "negative for large effusion",
        "costophrenic sulci remain sharp without effusion",
        "we see no fluid in the pleural cavities",
    ),
    "no pneumothorax": (
        "there is no pneumothorax",
        "no evidence of pneumothorax is demonstrated",
        "negative for visible pneumothorax",
        "a pneumothorax is absent",
        "we find no pneumothorax on either side",
    ),
    "bones": (
        "the osseous structures are intact",
        "visualized bony thorax reveals no acute abnormality",
        None,
        "skeleton without displaced fracture",
        "ribs and vertebrae look unbroken",
    ),
}

VARIANTS = {
    "low volume": (
        "lung volumes are low",
        "inspiratory effort is poor with crowding of bronchovascular structures",
        "hypoinflation limits evaluation of both bases",
        "shallow inspiration reduces the thoracic volume",
        "the patient took only a small breath",
    ),
    "high volume": (
        "the lungs are hyperinflated with flattened diaphragms",
        "hyperexpansion is present suggesting chronic obstructive pulmonary disease",
        "large lung volumes with low flat hemidiaphragms",
        "overinflation with flat diaphragmatic leaves",
        "the chest is overexpanded as in longstanding emphysema",
    ),
    "tortuous aorta": (
        "the thoracic aorta is tortuous",
        "an ectatic aortic knob is noted",
        "unfolded tortuous aorta",
        "aorta elongated and unfolded",
        "the aorta takes a winding course",
    ),
    "calcified aorta": (
        "there is calcification of the aortic arch",
        "atherosclerotic changes of the aorta are noted",
        "calcified aortic knob",
        "calcific atheroma outlines the arch",
        "a chalky rim of calcium traces the arch",
    ),
    "degenerative spine": (
        "there are mild degenerative changes of the thoracic spine",
        "multilevel spondylosis with osteophytes is again noted",
        "degenerative vertebral spurring",
        "bridging osteophytes accompany disc narrowing in the dorsal column",
        "wear of the thoracic discs is evident",
    ),
    "scoliosis spine": (
        "there is scoliosis of the thoracic spine",
        "scoliotic curvature is noted",
        "spine is scoliotic",
        "lateral bending of the dorsal column in keeping with scoliosis",
        "the backbone follows a scoliotic arc",
    ),
    "raised diaphragm": (
        "there is elevation of the {side} hemidiaphragm",
        "the {side} hemidiaphragm is elevated relative to the opposite dome",
        "elevated {side} hemidiaphragm",
        "{side} diaphragmatic dome stands high",
        "the {side} leaf of the diaphragm rides higher than its partner",
    ),
    "gas": (
        "a gastric air bubble is noted under the left hemidiaphragm",
        "incidental gaseous distention of the stomach",
        "air filled stomach",
        "stomach contains gas below the left dome",
        "the gastric bubble is prominent",
    ),
    "rotated": (
        "the patient is rotated",
        "evaluation is limited by rotation of the patient",
        "rotated positioning",
        "asymmetric clavicles reflect oblique positioning",
        "the thorax was turned during exposure",
    ),
    "breasts": (
        "breast shadows overlie the lower lungs",
        "prominent breast tissue attenuates the bases",
        "overlying breast shadows",
        "mammary soft tissue projects over both bases",
        "the breasts veil the lower chest",
    ),
}

DEVICES = {
    "pacemaker": (
        "a {side} chest wall pacemaker is present with leads in the right atrium and right ventricle",
        "{side} pectoral pacer device with two intact leads is demonstrated",
        "{side} sided pacemaker with leads over the heart",
        "dual chamber pacemaker generator projects over the {side} chest",
        "the patient carries a {side} pacemaker whose wires end in the heart",
    ),
    "endotracheal": (
        "an endotracheal tube terminates above the carina",
        "the tip of the endotracheal tube lies several centimeters above the carinal bifurcation",
        "ET tube in satisfactory position above the carina",
        "orotracheal tube is correctly sited in the trachea",
        "a breathing tube occupies the trachea and stops short of the carina",
    ),
    "central": (
        "a {side} internal jugular central venous catheter terminates in the superior vena cava",
        "{side} jugular catheter with tip projecting over the lower vena cava is demonstrated",
        "{side} IJ central line with tip in SVC",
        "{side} cervical venous catheter reaches the cavoatrial junction",
        "a {side} neck catheter has been threaded into the caval vein",
    ),
    "nasogastric": (
        "an enteric tube courses below the diaphragm into the stomach",
        "the nasogastric tube descends with its tip projecting over the gastric body",
        "NG tube side port in stomach",
        "feeding tube passes the hiatus and ends in the stomach",
        "a swallowed tube can be followed down to the stomach",
    ),
    "chest": (
        "a {side} chest tube is in place with its tip at the apex",
        "{side} thoracostomy tube directed toward the apex is demonstrated",
        "{side} chest tube in place",
        "{side} pleural drainage catheter ends in the upper hemithorax",
        "a {side} thoracic drainage tube has been inserted",
    ),
    "sternotomy": (
        "median sternotomy wires and a prosthetic heart valve are present",
        "postsurgical changes of sternotomy and valve replacement are demonstrated",
        "sternal wires and prosthetic valve",
        "cerclage wires of the sternum with mechanical valve",
        "the sternum was wired after insertion of an artificial valve",
    ),
}
