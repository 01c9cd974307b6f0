import warnings
from functools import cache
from hypothesis import given, settings, HealthCheck, example
import boto3
from tests.generated_configs import jobs
from sagemaker_launcher import rules, request_model, estimator
from sagemaker_launcher.request import create_training_job_request
@cache
def session(region): return boto3.Session(region_name=region)
class Rec:
    def __init__(self): self.requests=[]
    def create_training_job(self, **r):
        self.requests.append(r); return {"TrainingJobArn":"arn"}
@settings(deadline=None,max_examples=300,phases=[p for p in __import__('hypothesis').Phase if p.name not in('shrink','explain')])
@given(jobs)
def test_t(job):
    r=Rec()
    from sagemaker_launcher.targets.aws import RecordingClient
    rq=create_training_job_request(job)
    estimator.start_with_estimator(job, RecordingClient(rq,lambda q:r.create_training_job(**q)), session(job.region))
    assert r.requests==[rq]
