from hypothesis import given, settings, HealthCheck
from tests.generated_configs import jobs
from sagemaker_launcher import rules, request_model
from sagemaker_launcher.request import create_training_job_request
@settings(deadline=None,max_examples=300)
@given(jobs)
def test_t(job):
    assert rules.violations(job)==()
    assert request_model.problems(create_training_job_request(job))==()
