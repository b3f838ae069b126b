"""What messages can do beside being sent: validated bodies, forwards, mentions, edits, recalls, reactions, pins,
expiry, schedules and drafts. judge.py is the door; docs/internals/conversations.md tells how the parts meet.
"""
