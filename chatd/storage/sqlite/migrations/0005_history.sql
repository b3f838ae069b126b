-- What has changed since a position: the indexer of search asks twice a second.
CREATE INDEX conversation_changed ON conversation(changed_pos);
