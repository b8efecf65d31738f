// The page. What stands here is only enough to build.
document.title = "fedkeys";
