"""Reports of train -> data/templates.json: sentences that many of them share, in groups that say the same."""

from stages.stage import run
from xpronet.common.files import write_json
from xpronet.common.params import Strict, read
from xpronet.common.wording import number
from xpronet.data.params import ReportParams
from xpronet.data.studies import of_split, read_annotation
from xpronet.labels import rules
from xpronet.labels.conditions import CONDITIONS, POSITIVE, UNCERTAIN
from xpronet.labels.params import TemplateParams
from xpronet.labels.templates import coverage, mine


class Params(Strict):
    reports: ReportParams
    templates: TemplateParams


def main() -> str:
    params = read(Params)
    studies = read_annotation("data/prepared/annotation.json")
    cleaned = {
        split: params.reports.clean(study.report for study in of_split(studies, split))
        for split in ("train", "val", "test")
    }
    templates = mine(cleaned["train"], rules.label, **dict(params.templates))
    groups = [
        {
            "wordings": template.wordings,
            "studies": template.studies,
            "observations": [
                name for name, value in zip(CONDITIONS, template.classes, strict=True) if value in (POSITIVE, UNCERTAIN)
            ],
        }
        for template in templates
    ]
    write_json("data/templates.json", groups)
    metrics = {"templates": len(templates), "wordings": sum(len(template.wordings) for template in templates)}
    metrics |= {f"{split}_coverage": coverage(reports, templates) for split, reports in cleaned.items()}
    write_json("metrics/details/templates.json", metrics)
    return f"{number(len(templates), 'template')}, {metrics['train_coverage']:.0%} of the sentences of train are one"


if __name__ == "__main__":
    run(main)
