"""S3 read without boto3, which takes three times as long to import as a list of experiments: where that is simple."""
