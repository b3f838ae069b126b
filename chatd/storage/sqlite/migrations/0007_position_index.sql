-- Nobody looks for positions by user and change, and every receipt and every own message had to be put into this index.
DROP INDEX position_uid;
