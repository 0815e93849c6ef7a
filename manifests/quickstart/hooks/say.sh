#!/bin/sh
# Shows what a hook is told. Exit status 0: visor goes on.
echo "$VISOR_PHASE of upgrade $UPGRADE_NAME at height $UPGRADE_HEIGHT, attempt $VISOR_ATTEMPT"
