#!/usr/bin/env bash
# Put the time-based triggers into Google Cloud. A second run changes what differs and creates nothing twice.
#
#   scheduler.sh process    strategy 3: Cloud Scheduler posts to /process at 23:25, three retries five minutes apart
#   scheduler.sh workflow   strategy 2: deploy build_features.yaml, start it at 23:00
#   scheduler.sh tick       for `mlfs serve` without loops: /tick each minute from 22:00 to 00:59
#
# No date is written anywhere: /process is asked for "today", the workflow computes its own: until noon the date before.
# Every time is of TIME_ZONE, also across a change of daylight saving time.
#
# Needs gcloud, signed in, and: PROJECT, REGION, MLFS_URL (base address, no slash at the end), and
#   SCHEDULER_ACCOUNT  e-mail that signs for /process and starts the workflow; one of MLFS_OPERATORS
#   TICK_ACCOUNT       e-mail that signs for /tick; MLFS_TICK_SERVICE_ACCOUNT             (tick)
#   WORKFLOW_ACCOUNT   e-mail that the workflow runs as; one of MLFS_OPERATORS            (workflow)
#   TEAM_DEFENSE_URL PLAYER_SHOT_URL COMPOSITE_URL DAILY_CACHE_URL                        (workflow)
#   NOTIFY_URL         a webhook told of failures; optional                               (workflow)
# Tokens carry MLFS_URL as audience, that of /tick MLFS_URL/tick: MLFS_API_AUDIENCES and MLFS_TICK_AUDIENCE.
set -euo pipefail

TIME_ZONE=${TIME_ZONE:-America/New_York}
WORKFLOW=${WORKFLOW:-phase4-orchestration}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

need() {
  local name missing=()
  for name in "$@"; do
    [ -n "${!name:-}" ] || missing+=("$name")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    echo "scheduler.sh: not set: ${missing[*]}" >&2
    exit 2
  fi
}

# job NAME FLAGS...: create the job, or update it where it exists. `update` takes the same flags.
job() {
  local name=$1 verb=create
  shift
  if gcloud scheduler jobs describe "$name" --project "$PROJECT" --location "$REGION" > /dev/null 2>&1; then
    verb=update
  fi
  gcloud scheduler jobs "$verb" http "$name" --project "$PROJECT" --location "$REGION" --time-zone "$TIME_ZONE" \
    --http-method POST "$@"
}

# Retries end at 23:40 at the earliest. "today" stays the same night until noon.
process() {
  need PROJECT REGION MLFS_URL SCHEDULER_ACCOUNT
  job phase4-ml-feature-store-time-based \
    --schedule "25 23 * * *" \
    --uri "$MLFS_URL/process" \
    --message-body '{"analysis_date": "today"}' \
    --attempt-deadline 150s \
    --max-retry-attempts 3 --min-backoff 300s --max-backoff 300s \
    --oidc-service-account-email "$SCHEDULER_ACCOUNT" --oidc-token-audience "$MLFS_URL"
}

workflow() {
  need PROJECT REGION MLFS_URL SCHEDULER_ACCOUNT WORKFLOW_ACCOUNT \
    TEAM_DEFENSE_URL PLAYER_SHOT_URL COMPOSITE_URL DAILY_CACHE_URL
  local variables="MLFS_URL=$MLFS_URL|TEAM_DEFENSE_URL=$TEAM_DEFENSE_URL|PLAYER_SHOT_URL=$PLAYER_SHOT_URL"
  variables+="|COMPOSITE_URL=$COMPOSITE_URL|DAILY_CACHE_URL=$DAILY_CACHE_URL|TIME_ZONE=$TIME_ZONE"
  if [ -n "${NOTIFY_URL:-}" ]; then
    variables+="|NOTIFY_URL=$NOTIFY_URL"
  fi
  # ^|^ lets a value hold a comma.
  gcloud workflows deploy "$WORKFLOW" --project "$PROJECT" --location "$REGION" \
    --source "$here/build_features.yaml" --service-account "$WORKFLOW_ACCOUNT" --set-env-vars "^|^$variables"
  gcloud workflows add-iam-policy-binding "$WORKFLOW" --project "$PROJECT" --location "$REGION" \
    --member "serviceAccount:$SCHEDULER_ACCOUNT" --role roles/workflows.invoker
  local executions="projects/$PROJECT/locations/$REGION/workflows/$WORKFLOW/executions"
  # Once started an execution retries by itself; the job retries only the start.
  job phase4-workflow-trigger \
    --schedule "0 23 * * *" \
    --uri "https://workflowexecutions.googleapis.com/v1/$executions" \
    --message-body '{"argument": "{}"}' \
    --attempt-deadline 60s \
    --max-retry-attempts 3 --min-backoff 30s --max-backoff 120s \
    --oauth-service-account-email "$SCHEDULER_ACCOUNT"
}

tick() {
  need PROJECT REGION MLFS_URL TICK_ACCOUNT
  job mlfs-tick \
    --schedule "* 22,23,0 * * *" \
    --uri "$MLFS_URL/tick" \
    --attempt-deadline 150s \
    --max-retry-attempts 0 \
    --oidc-service-account-email "$TICK_ACCOUNT" --oidc-token-audience "$MLFS_URL/tick"
}

case "${1:-}" in
  process | workflow | tick) "$1" ;;
  *)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
