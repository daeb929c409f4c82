"""From videos to windows of frames, and back to video.

    sources       which videos make up a data set, and their splits
    video         decode a video file; frame_folder the same for a folder of images
    cache         decode once into memory-mapped bytes; shots finds cuts and repeated frames; clip opens what was prepared
    datasets      prepare and open a data set; windows cuts it into what training draws
    video_writer  write a video with an exact rate and number of frames
"""
