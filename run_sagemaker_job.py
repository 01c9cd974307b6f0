"""Launch, rehearse and rerun SageMaker training jobs: `python run_sagemaker_job.py --help`."""

import sys

from sagemaker_launcher.cli import main

if __name__ == "__main__":
    sys.exit(main())
