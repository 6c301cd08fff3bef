#!lua
-- Finds out whether Redis has memory for another job, without appending one.
--
-- KEYS[1] stream
-- Returns 0, or the error OOM.
--
-- Does nothing: without flags Redis refuses it for the reasons for which it would refuse
-- XADD, and looks at its memory first. The stream is named for the cluster slot's sake.

return 0
