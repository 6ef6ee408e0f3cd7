"""Writes the PDF documents of tests/data. They are checked in; run this after a change of text:

python tests/unit/app/make_pdfs.py
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fpdf import FPDF

DATA = Path(__file__).parents[2] / "data"

DOCUMENTS = {
    "aw-200-datasheet.pdf": [
        (
            "AW-200 Weather Station",
            "The AW-200 is a weather station for places without mains power: mountain huts, "
            "orchards, harbour walls. It measures wind, rain, temperature, humidity and air "
            "pressure and sends them by LoRa or mobile network every ten minutes.\n\n"
            "It weighs 6.4 kilograms with its tripod and is set up by two people in half an hour. "
            "The housing is made of recycled aluminium and comes in white only.",
        ),
        (
            "Sensors",
            "Wind speed: ultrasonic, 0 to 60 metres per second, accuracy 0.3 metres per second.\n"
            "Wind direction: accuracy 2 degrees.\n"
            "Air temperature: minus 40 to plus 60 degrees Celsius, accuracy 0.1 degrees.\n"
            "Rain: tipping bucket, resolution 0.2 millimetres.\n"
            "Air pressure: 300 to 1100 hectopascal, accuracy 0.5 hectopascal.\n\n"
            "The sensors are calibrated every 24 months at the bench in Fernhill.",
        ),
        (
            "Power and battery",
            "A solar panel of 20 watts charges a lithium iron phosphate battery of 18 ampere "
            "hours. Fully charged, the battery lasts 21 days without any sun; with the heated "
            "rain gauge switched on, four days.\n\n"
            "The battery is replaced after about 2,000 charging cycles. A USB-C port allows "
            "charging by hand.",
        ),
        (
            "Installation",
            "Keep a distance of ten times the height of the nearest obstacle. The wind sensor "
            "stands ten metres above ground, the temperature sensor two metres. The feet of the "
            "tripod are anchored with the ground screws delivered, 70 centimetres deep.",
        ),
    ],
    "field-safety-manual.pdf": [
        (
            "Field Safety Manual",
            "For everyone who sets up or repairs stations outdoors. Nobody works alone above the "
            "tree line. Before leaving, write the return time into the field log and tell the "
            "dispatcher in Osterby, radio channel 7.",
        ),
        (
            "Masts and weather",
            "Climbing harnesses are inspected every six months. No mast is climbed in wind above "
            "12 metres per second.\n\n"
            "When lightning is closer than 16 kilometres, everybody leaves the mast. Work may go "
            "on when for 30 minutes all lightning was farther away than that.",
        ),
        (
            "Lithium batteries",
            "For transport each lithium battery is packed in a fireproof bag of its own with its "
            "contacts taped. At most four travel in one car. A swollen battery is put into sand "
            "and not transported at all; call the hazardous goods officer, Priya Raman.",
        ),
        (
            "First aid and wildlife",
            "Each car carries a first aid kit of size L and a tick remover. Keep 50 metres away "
            "from grazing cattle with calves. Report every accident, also a harmless one, before "
            "the evening.",
        ),
    ],
}


def write(name: str, pages: list[tuple[str, str]]) -> None:
    """One page for each heading with its text."""
    pdf = FPDF(format="A4")
    pdf.set_title(pages[0][0])
    pdf.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
    for heading, text in pages:
        pdf.add_page()
        pdf.set_font("Helvetica", style="B", size=18)
        pdf.multi_cell(0, 12, heading, new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("Helvetica", size=11)
        pdf.multi_cell(0, 7, text)
    pdf.output(str(DATA / name))


if __name__ == "__main__":
    for name, pages in DOCUMENTS.items():
        write(name, pages)
