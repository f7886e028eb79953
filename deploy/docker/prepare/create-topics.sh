#!/bin/bash
# Creates the topics that deploy/config/minimal-policy.yaml names; those that exist stay as they are.
set -euo pipefail

create() {
  local name="$1"
  shift
  /opt/kafka/bin/kafka-topics.sh --bootstrap-server "$BOOTSTRAP_SERVERS" --create --if-not-exists \
    --topic "$name" --partitions 4 --replication-factor 1 "$@"
}

days() {
  echo "retention.ms=$(($1 * 24 * 60 * 60 * 1000))"
}

create customer.interactions
create customer.interactions.dead-letters
# Nothing is kept for longer than the purposes of the audience allow.
create customer.interactions.crm --config "$(days 365)"
create customer.interactions.ads --config "$(days 30)"
# The last decision of everyone is kept; a deletion stays visible long enough for every reader to see it.
create consent.decisions --config cleanup.policy=compact --config delete.retention.ms=604800000
