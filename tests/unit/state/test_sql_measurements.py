from ekiben.state.measurements import Measurement, MemoryMeasurements
from ekiben.state.sql_measurements import SqlMeasurements

MEASUREMENT = Measurement(rollout="m-1", step=0, metric="errorRate", time=1.0, outcome="Successful", message="fine")


def test_numbers_that_json_has_not_are_nothing(database):
    measurements = SqlMeasurements(database)
    measurements.append([Measurement(rollout="m-1", step=2, metric="x", time=1.0, outcome="Error", message="", value=float("nan"), n=3)])
    [found] = measurements.find("m-1")
    assert (found.value, found.n, found.outcome) == (None, 3, "Error")


def test_the_database_and_its_twin_find_alike(database):
    for measurements in (SqlMeasurements(database), MemoryMeasurements()):
        measurements.append([])
        measurements.append([MEASUREMENT, MEASUREMENT])
        assert measurements.find("m-1") == measurements.find("m-1", step=0) == [MEASUREMENT, MEASUREMENT]
        assert measurements.find("m-1", step=1) == measurements.find("m-2") == []
