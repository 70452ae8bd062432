"""A patient full of identifying data, at every level of CT images, a segmentation, a structure set and a report."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, ExplicitVRLittleEndian, RTStructureSetStorage

from delineate.formats.dicom.writing import write_dicom_series
from delineate.geometry import Grid, compose_affine
from delineate.volume import Kind, Volume

ROTATION = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
GRID = Grid((6, 5, 4), compose_affine(ROTATION @ np.diag([0.8, 0.9, 2.5]), (-90.25, 120.5, -33.125)), "1.2.840.99.7.4")
ARRAY = (np.arange(120, dtype=np.int16).reshape(1, 6, 5, 4) * 31) % 977 - 500

SECRETS = (
    b"Hildegard",
    b"Quastenbrink",
    b"HQ-4711",
    b"19511224",
    b"20230517",
    b"ACC-88123",
    b"Sankt Blasien",
    b"Zwirbelmann",
    b"SN-556677",
    b"Ringstrasse",
    b"1.2.840.99.",
    b"HOSPITALNODE",
    b"metastasis of Hildegard",
)
"""Bytes of which none may be left; UIDs of this patient all start with 1.2.840.99."""

_IDENTITY: dict[str, object] = {
    "PatientName": "Quastenbrink^Hildegard",
    "PatientID": " HQ-4711 ",
    "PatientBirthDate": "19511224",
    "PatientSex": "F",
    "PatientAge": "071Y",
    "PatientWeight": "64.5",
    "PatientAddress": "Ringstrasse 3, Sankt Blasien",
    "OtherPatientNames": "Hilde^Quastenbrink",
    "AccessionNumber": "ACC-88123",
    "StudyID": "ACC-88123",
    "StudyDate": "20230517",
    "StudyTime": "101500",
    "SeriesDate": "20230517",
    "SeriesTime": "102200.125",
    "AcquisitionDateTime": "20230517102233.5+0200",
    "StudyDescription": "Follow-up of Hildegard, Dr Zwirbelmann",
    "ReferringPhysicianName": "Zwirbelmann^Otto",
    "InstitutionName": "Sankt Blasien",
    "StationName": "HOSPITALNODE",
    "DeviceSerialNumber": "SN-556677",
    "SoftwareVersions": "7.1 HOSPITALNODE/Zwirbelmann",
    "ImageComments": "metastasis of Hildegard",
    "TimezoneOffsetFromUTC": "+0200",
}


def identify(dataset: Dataset) -> Dataset:
    """Put the patient's data into an object, nested and private elements included; returns it."""
    for keyword, value in _IDENTITY.items():
        setattr(dataset, keyword, value)
    request = Dataset()
    request.RequestedProcedureDescription = "CT for Quastenbrink"
    request.RequestingPhysician = "Zwirbelmann^Otto"
    dataset.RequestAttributesSequence = [request]
    alias = Dataset()
    alias.PatientID, alias.TypeOfPatientID = "HQ-4711", "TEXT"
    dataset.OtherPatientIDsSequence = [alias]
    equipment = Dataset()
    equipment.Manufacturer, equipment.InstitutionName = "Delineate Tests", "Sankt Blasien"
    equipment.ContributionDateTime, equipment.OperatorsName = "20230517", "Zwirbelmann^Otto"
    equipment.PurposeOfReferenceCodeSequence = [code("109101", "DCM", "Acquisition Equipment")]
    private = equipment.private_block(0x0011, "DELINEATE TESTS", create=True)
    private.add_new(0x01, "LO", "Quastenbrink")
    dataset.ContributingEquipmentSequence = [equipment]
    block = dataset.private_block(0x0029, "DELINEATE TESTS", create=True)
    block.add_new(0x01, "UN", b"Hildegard Quastenbrink, 20230517")
    dataset.add_new(0x60000010, "US", 2)
    dataset.add_new(0x60000011, "US", 2)
    dataset.add_new(0x60000022, "LO", "Hildegard")
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", b"\x01\x00")
    return dataset


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def write_images(folder: Path) -> list[Path]:
    """CT slices of the patient."""
    files = write_dicom_series(folder, Volume(ARRAY, GRID, Kind.CT), seed="identified")
    for n, path in enumerate(files):
        dataset = identify(pydicom.dcmread(path))
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.840.99.3.{n + 1}")
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.840.99.1", "1.2.840.99.2"
        dataset.file_meta.SourceApplicationEntityTitle = "HOSPITALNODE"
        dataset.preamble = b"Quastenbrink".ljust(128, b"\0")
        dataset.save_as(path)
    return list(files)


def segmentation(images: Sequence[Dataset]) -> Dataset:
    """A mask of two pixels a slice, by highdicom, with the patient's name in its texts."""
    import highdicom as hd

    description = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Tumour Quastenbrink",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=hd.UID("1.2.840.99.9.1"),
        tracking_id="metastasis of Hildegard",
    )
    mask = np.zeros((len(images), images[0].Rows, images[0].Columns), dtype=np.uint8)
    mask[:, 1, 2:4] = 1
    return identify(
        hd.seg.Segmentation(
            source_images=list(images),
            pixel_array=mask,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[description],
            series_instance_uid="1.2.840.99.4",
            series_number=2,
            sop_instance_uid="1.2.840.99.4.1",
            instance_number=1,
            manufacturer="Delineate Tests",
            manufacturer_model_name="Tests",
            software_versions="1",
            device_serial_number="SN-556677",
            content_creator_name="Zwirbelmann^Otto",
        )
    )


def report(images: Sequence[Dataset], mask: Dataset) -> Dataset:
    """A Comprehensive 3D SR by highdicom: an observer, one volume, and the patient's age and name in its content."""
    import highdicom as hd

    person = hd.sr.ObserverContext(codes.DCM.Person, hd.sr.PersonObserverIdentifyingAttributes("Zwirbelmann^Otto"))
    group = hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(hd.UID("1.2.840.99.9.1"), "metastasis of Hildegard"),
        referenced_segment=hd.sr.ReferencedSegment(
            sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
            sop_instance_uid="1.2.840.99.4.1",
            segment_number=1,
            source_series=hd.sr.SourceSeriesForSegmentation("1.2.840.99.2"),
        ),
        measurements=[hd.sr.Measurement(codes.SCT.Volume, 12.5, codes.UCUM.CubicMillimeter)],
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_person_context=person),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[group],
    )
    document = hd.sr.Comprehensive3DSR(
        evidence=[*images, mask],
        content=content,
        series_instance_uid="1.2.840.99.5",
        series_number=3,
        sop_instance_uid="1.2.840.99.5.1",
        instance_number=1,
        institution_name="Sankt Blasien",
        is_complete=True,
        is_final=True,
        is_verified=True,
        verifying_observer_name="Zwirbelmann^Otto",
        verifying_organization="Sankt Blasien",
    )
    stream = BytesIO()
    document.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    plain = pydicom.dcmread(stream)  # without highdicom's own rules for what may be appended
    root: Any = plain.ContentSequence
    root.append(_item("TEXT", "HAS OBS CONTEXT", ("121106", "Comment"), TextValue="metastasis of Hildegard"))
    root.append(_item("PNAME", "HAS OBS CONTEXT", ("121029", "Subject Name"), PersonName="Quastenbrink^Hildegard"))
    root.append(_item("DATE", "HAS OBS CONTEXT", ("121031", "Subject Birth Date"), Date="19511224"))
    age = Dataset()
    age.NumericValue, age.MeasurementUnitsCodeSequence = "71", [code("a", "UCUM", "year")]
    root.append(_item("NUM", "HAS OBS CONTEXT", ("121033", "Subject Age"), MeasuredValueSequence=[age]))
    return identify(plain)


def _item(value_type: str, relationship: str, name: tuple[str, str], **values: object) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, value_type
    item.ConceptNameCodeSequence = [code(name[0], "DCM", name[1])]
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def structure_set(images: Sequence[Dataset]) -> Dataset:
    """Two structures named after the patient, one contour on each slice, with every reference an RTSTRUCT has."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, "1.2.840.99.6.1"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = images[0].StudyInstanceUID, "1.2.840.99.6"
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "RTSTRUCT", 4, 1
    dataset.Manufacturer, dataset.OperatorsName = "Delineate Tests", "Zwirbelmann^Otto"
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = images[0].FrameOfReferenceUID, None
    dataset.StructureSetLabel, dataset.StructureSetName = "Quastenbrink", "Hildegard"
    dataset.StructureSetDate, dataset.StructureSetTime = "20230517", "113000"
    dataset.ApprovalStatus, dataset.ReviewerName = "APPROVED", "Zwirbelmann^Otto"
    dataset.ReviewDate, dataset.ReviewTime = "20230517", "120000"
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(images)]
    dataset.StructureSetROISequence = [_roi(number) for number in (1, 2)]
    dataset.ROIContourSequence = [_contours(number, images) for number in (1, 2)]
    dataset.RTROIObservationsSequence = [_observation(number) for number in (1, 2)]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return identify(dataset)


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def _frame_of_reference(images: Sequence[Dataset]) -> Dataset:
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID
    series.ContourImageSequence = [_reference(image) for image in images]
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = images[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = images[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    return frame


def _roi(number: int) -> Dataset:
    roi = Dataset()
    roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, f"Quastenbrink {number}", "MANUAL"
    roi.ReferencedFrameOfReferenceUID = GRID.frame_of_reference_uid
    return roi


def _contours(number: int, images: Sequence[Dataset]) -> Dataset:
    contours = Dataset()
    contours.ReferencedROINumber, contours.ContourSequence = number, []
    for image in images:
        contour = Dataset()
        contour.ContourImageSequence = [_reference(image)]
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 3
        x, y, z = (float(n) for n in image.ImagePositionPatient)
        contour.ContourData = [x, y, z, x + 2, y, z, x, y + 1.5, z]
        contours.ContourSequence.append(contour)
    return contours


def _observation(number: int) -> Dataset:
    observation = Dataset()
    observation.ObservationNumber, observation.ReferencedROINumber = number, number
    observation.RTROIInterpretedType, observation.ROIInterpreter = "GTV", "Zwirbelmann^Otto"
    return observation


def write_study(folder: Path) -> list[Path]:
    """All of the patient's objects: four images, a segmentation, a structure set, a report."""
    paths = write_images(folder / "images")
    images = [pydicom.dcmread(path) for path in paths]
    mask = segmentation(images)
    objects = {"mask": mask, "structures": structure_set(images), "report": report(images, mask)}
    for name, dataset in objects.items():
        paths.append(folder / name)  # without extension, as archives write them
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths
