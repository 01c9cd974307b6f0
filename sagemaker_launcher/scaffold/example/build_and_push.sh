#!/usr/bin/env bash
# Builds the training image, and pushes it to Amazon ECR unless told not to. For bash 3.2 (macOS) and later.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: build_and_push.sh [options] [-- options of `docker build`]

Builds the training image for SageMaker and pushes it to your Amazon ECR registry. What it prints on stdout is
the pushed image by digest, ready for ESTIMATOR.IMAGE_URI; everything else goes to stderr.

  --image NAME         repository name (default: sagemaker-digits). Keep "sagemaker" in it: that is what the
                       policy AmazonSageMakerFullAccess lets jobs pull
  --tag TAG            default: the git commit, with -dirty when files beside this script are changed or new;
                       latest where git knows none of them
  --base-image IMAGE   the image to build on, instead of the Dockerfile's BASE_IMAGE
  --dockerfile FILE    default: Dockerfile.sagemaker beside this script
  --local              only build, and print NAME:TAG: needs neither the AWS CLI nor credentials
  --create-repository  create the repository when it is missing, with a scan of every pushed image
  --region REGION      default: AWS_REGION, AWS_DEFAULT_REGION, or `aws configure get region`
  --account ACCOUNT    whose registry; default: the account of your credentials
  --profile PROFILE    profile of the AWS CLI
  --registry HOST      push to this registry instead of ACCOUNT.dkr.ecr.REGION.amazonaws.com; one in ECR
                       has its account and its region in its name
  --docker PROGRAM     docker (default), or a program with the same commands, such as podman or finch
  --help               show this text

Exit codes: 0 done, 1 build or push failed, 2 usage, 4 AWS refuses your credentials, 15 a program is missing.
TEXT
}

die() {
  local code=$1
  shift
  printf 'build_and_push.sh: %s\n' "$*" >&2
  exit "$code"
}

say() {
  printf '%s\n' "$*" >&2
}

require_program() {
  command -v "$1" >/dev/null 2>&1 || die 15 "the program $1 is not installed or not on PATH; $2"
}

require_form() {
  [[ $2 =~ $3 ]] || die 2 "$1: '$2' is not $4"
}

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" >/dev/null && pwd)
image=sagemaker-digits tag='' base_image='' dockerfile=$here/Dockerfile.sagemaker docker=docker
region=${AWS_REGION:-${AWS_DEFAULT_REGION:-}} account='' registry='' local_only=false create_repository=false

while [[ $# -gt 0 ]]; do
  case $1 in
    --help | -h) usage && exit 0 ;;
    --local) local_only=true && shift && continue ;;
    --create-repository) create_repository=true && shift && continue ;;
    --) shift && break ;;
    --image | --tag | --base-image | --dockerfile | --region | --account | --profile | --registry | --docker)
      [[ -n ${2:-} ]] || die 2 "$1 needs a value; see --help" ;;
    *) die 2 "unknown option $1; see --help" ;;
  esac
  case $1 in
    --image) image=$2 ;;
    --tag) tag=$2 ;;
    --base-image) base_image=$2 ;;
    --dockerfile) dockerfile=$2 ;;
    --region) region=$2 ;;
    --account) account=$2 ;;
    --profile) export AWS_PROFILE=$2 ;;
    --registry) registry=$2 ;;
    --docker) docker=$2 ;;
  esac
  shift 2
done
# What is left in "$@" goes to `docker build`.

ecr_host='^([0-9]{12})\.dkr\.ecr(-fips)?\.([a-z0-9-]+)\.amazonaws\.'  # account and region

default_tag() {
  local commit changes
  commit=$(git -C "$here" describe --always --exclude='*' 2>/dev/null) || commit=''
  # A project inside the repository of something else, which ignores it or has not added it yet, is in no commit.
  if [[ -z $commit || -z $(git -C "$here" ls-files -- .) ]]; then
    printf 'latest\n'
    return
  fi
  # New files enter the image, too, and `git describe --dirty` does not see them.
  changes=$(git -C "$here" --no-optional-locks status --porcelain --untracked-files=normal -- .) ||
    die 1 "git status failed in $here: mend that, or give --tag"
  printf '%s%s\n' "$commit" "${changes:+-dirty}"
}

# Prints the images that the Dockerfile builds on, its ARGs replaced by their values.
base_images() {
  awk -v base_image="$base_image" '
    function resolved(text) {
      while (match(text, /\$\{?[A-Za-z_][A-Za-z0-9_]*\}?/)) {
        name = substr(text, RSTART, RLENGTH)
        gsub(/[${}]/, "", name)
        text = substr(text, 1, RSTART - 1) values[name] substr(text, RSTART + RLENGTH)
      }
      return text
    }
    toupper($1) == "ARG" && !stages {  # only those before the first FROM count in a FROM
      split($2, parts, "=")
      value = substr($2, length(parts[1]) + 2)
      gsub(/["\047\r]/, "", value)
      values[parts[1]] = parts[1] == "BASE_IMAGE" && base_image != "" ? base_image : resolved(value)
    }
    toupper($1) == "FROM" { stages++; print resolved($2 ~ /^--platform/ ? $3 : $2) }
  ' "$dockerfile"
}

# Takes a registry and the region that it is in.
login() {
  say "logging in to $1"
  # Through a pipe: other users of this machine can read the arguments of every program.
  aws ecr get-login-password --region "$2" | "$docker" login --username AWS --password-stdin "$1" >&2 ||
    die 4 "cannot log in to $1; check your credentials with: aws sts get-caller-identity"
}

# A base image in ECR, such as an AWS Deep Learning Container, lies in a registry with a login of its own.
login_to_base_registries() {
  local base host known=" $registry "
  for base in $(base_images); do
    host=${base%%/*}
    if [[ $host =~ $ecr_host && $known != *" $host "* ]]; then
      known="$known$host "
      login "$host" "${BASH_REMATCH[3]}"
    fi
  done
}

# Takes the name of the image and more options of `docker build`.
build() {
  local name=$1 help
  local command=("$docker" build --platform linux/amd64)  # SageMaker's machines, whatever this one is
  shift
  help=$("$docker" buildx build --help 2>/dev/null || true)
  if [[ $help == *--load* && $help == *--provenance* ]]; then
    # An attestation would make an image index of the image, which parts of SageMaker refuse.
    command=("$docker" buildx build --load --platform linux/amd64 --provenance=false)
  fi
  if [[ -n $base_image ]]; then
    command+=(--build-arg "BASE_IMAGE=$base_image")
  fi
  say "building $name"
  "${command[@]}" --file "$dockerfile" --tag "$name" "$@" "$here" >&2 ||
    die 1 "the build failed; nothing was pushed"
}

create_repository() {
  local answer
  if answer=$(aws ecr create-repository --region "$region" --repository-name "$image" \
    --image-scanning-configuration scanOnPush=true ${account:+--registry-id "$account"} 2>&1); then
    say "created the repository $image in $region"
  elif [[ $answer != *RepositoryAlreadyExistsException* ]]; then
    die 1 "cannot create the repository $image in $region: $answer"
  fi
}

# Prints the pushed image by digest; the same image may have been pushed to other repositories too.
pushed_digest() {
  local references reference
  references=$("$docker" image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1:$tag")
  for reference in $references; do
    if [[ $reference == "$1@sha256:"* ]]; then
      printf '%s\n' "$reference"
      return
    fi
  done
  die 1 "pushed $1:$tag, but $docker does not know its digest"
}

resolve_registry() {
  if [[ $registry =~ $ecr_host ]]; then
    account=${BASH_REMATCH[1]} region=${BASH_REMATCH[3]}
    return
  fi
  if [[ -z $region ]]; then
    region=$(aws configure get region) || die 2 "no region: give --region, or set one with: aws configure"
  fi
  require_form --region "$region" '^[a-z]+(-[a-z]+)+-[0-9]+$' 'a region such as us-east-1'
  [[ -z $registry ]] || return 0
  if [[ -z $account ]]; then
    account=$(aws sts get-caller-identity --query Account --output text) ||
      die 4 "AWS does not tell the account of your credentials; log in again, or choose others with --profile"
  fi
  require_form --account "$account" '^[0-9]{12}$' 'an account of 12 digits'
  case $region in
    cn-*) registry=$account.dkr.ecr.$region.amazonaws.com.cn ;;
    eusc-*) registry=$account.dkr.ecr.$region.amazonaws.eu ;;
    *) registry=$account.dkr.ecr.$region.amazonaws.com ;;
  esac
}

tag=${tag:-$(default_tag)}
require_form --image "$image" '^[a-z0-9]+([._/-]+[a-z0-9]+)*$' 'a repository name (a-z 0-9 . _ - /)'
require_form --tag "$tag" '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$' 'a tag: at most 128 letters, digits, _ . -'
require_form --base-image "$base_image" '^[A-Za-z0-9._/:@-]*$' 'an image'
require_form --registry "$registry" '^([A-Za-z0-9.-]+(:[0-9]+)?)?$' 'a host, or host:port'
[[ -f $dockerfile ]] || die 2 "--dockerfile: there is no file $dockerfile"
require_program "$docker" 'install it, or name another with --docker'

if $local_only; then
  build "$image:$tag" "$@"
  printf '%s\n' "$image:$tag"
  exit
fi

require_program aws 'install the AWS CLI, or only build with --local'
export AWS_PAGER=''
resolve_registry
login_to_base_registries
login "$registry" "$region"
build "$registry/$image:$tag" "$@"
if $create_repository; then
  create_repository
fi
say "pushing $registry/$image:$tag"
"$docker" push "$registry/$image:$tag" >&2 ||
  die 1 "the push failed; a repository that does not exist is created with --create-repository"
pushed_digest "$registry/$image"
